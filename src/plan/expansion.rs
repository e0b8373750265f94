//! `$(NAME)` in env, command and args, byte for byte as Kubernetes does it (third_party/forked/golang/expansion).

#[cfg(test)]
mod tests;

/// The text would be longer than `limit` bytes.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooLong;

/// `$(NAME)` becomes the variable's value, or stays as it is when `lookup` does not know it; `$$` becomes `$`, so that
/// `$$(NAME)` is the text `$(NAME)`; every other `$` stays. Stops before more than `limit` bytes are written: variables
/// that name others twice double with each.
pub(super) fn expand<'a>(
    text: &str,
    limit: usize,
    lookup: impl Fn(&str) -> Option<&'a str>,
) -> Result<String, TooLong> {
    let mut expanded = Bounded { text: String::new(), limit };
    let mut rest = text;
    let mut closes = true;
    while let Some(position) = rest.find('$') {
        expanded.push(&rest[..position])?;
        let after = &rest[position + 1..];
        if let Some(tail) = after.strip_prefix('$') {
            expanded.push("$")?;
            rest = tail;
        } else if let Some((name, tail)) = after.strip_prefix('(').filter(|_| closes).and_then(|it| it.split_once(')'))
        {
            match lookup(name) {
                Some(value) => expanded.push(value)?,
                None => ["$(", name, ")"].into_iter().try_for_each(|part| expanded.push(part))?,
            }
            rest = tail;
        } else {
            // Where no `)` follows, none follows a later `$(` either: looked for once, not for each.
            closes &= !after.starts_with('(');
            expanded.push("$")?;
            rest = after;
        }
    }
    expanded.push(rest)?;
    Ok(expanded.text)
}

struct Bounded {
    text: String,
    limit: usize,
}

impl Bounded {
    fn push(&mut self, part: &str) -> Result<(), TooLong> {
        if self.text.len() + part.len() > self.limit {
            return Err(TooLong);
        }
        self.text.push_str(part);
        Ok(())
    }
}
