//! `$(NAME)` in env, command and args, byte for byte as Kubernetes does it (third_party/forked/golang/expansion).

#[cfg(test)]
mod tests;

/// `$(NAME)` becomes the variable's value, or stays as it is when `lookup` does not know it; `$$` becomes `$`, so that
/// `$$(NAME)` is the text `$(NAME)`; every other `$` stays.
pub(super) fn expand<'a>(text: &str, lookup: impl Fn(&str) -> Option<&'a str>) -> String {
    let mut expanded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(position) = rest.find('$') {
        expanded.push_str(&rest[..position]);
        let after = &rest[position + 1..];
        if let Some(tail) = after.strip_prefix('$') {
            expanded.push('$');
            rest = tail;
        } else if let Some((name, tail)) = after.strip_prefix('(').and_then(|inner| inner.split_once(')')) {
            match lookup(name) {
                Some(value) => expanded.push_str(value),
                None => expanded.extend(["$(", name, ")"]),
            }
            rest = tail;
        } else {
            expanded.push('$');
            rest = after;
        }
    }
    expanded.push_str(rest);
    expanded
}
