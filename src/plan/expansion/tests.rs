use proptest::prelude::*;

use super::TooLong;

/// Without a limit that matters.
fn expand(text: &str, lookup: impl Fn(&str) -> Option<&'static str>) -> String {
    super::expand(text, 1 << 20, lookup).expect("short")
}

const VARIABLES: &[(&str, &str)] =
    &[("VAR_A", "A"), ("VAR_B", "B"), ("VAR_C", "C"), ("VAR_REF", "$(VAR_A)"), ("VAR_EMPTY", "")];

fn lookup(wanted: &str) -> Option<&'static str> {
    VARIABLES.iter().find(|(name, _)| *name == wanted).map(|(_, value)| *value)
}

#[test]
fn stops_at_the_limit_and_not_before() {
    let twice = |limit| super::expand("$(VAR_A)$(VAR_A)", limit, |_| Some("0123456789"));
    assert_eq!(twice(20).as_deref(), Ok("01234567890123456789"));
    assert_eq!(twice(19), Err(TooLong));
    assert_eq!(super::expand("$$$(NONE)x", 10, lookup).as_deref(), Ok("$$(NONE)x"));
    assert_eq!(super::expand("$$$(NONE)x", 8, lookup), Err(TooLong));
}

#[test]
fn many_open_parentheses_take_no_time() {
    let text = "$(".repeat(500_000);
    assert_eq!(super::expand(&text, text.len(), lookup), Ok(text.clone()));
}

/// The cases of Kubernetes' expand_test.go, and a few more.
#[test]
fn kubernetes_own_cases() {
    let cases = [
        // Whole, beside text, more than one.
        ("$(VAR_A)", "A"),
        ("___$(VAR_B)___", "___B___"),
        ("___$(VAR_C)", "___C"),
        ("$(VAR_A)-$(VAR_A)", "A-A"),
        ("$(VAR_A)_$(VAR_B)_$(VAR_C)", "A_B_C"),
        ("$(VAR_A)$(VAR_B)", "AB"),
        ("foo$(VAR_EMPTY)bar", "foobar"),
        // What a value holds is not expanded again.
        ("%%$(VAR_REF)--$(VAR_REF)%%", "%%$(VAR_A)--$(VAR_A)%%"),
        // Escapes: pairs of `$` from the left.
        ("$$(VAR_B)_$(VAR_A)", "$(VAR_B)_A"),
        ("f000-$$VAR_A", "f000-$VAR_A"),
        ("$$$(VAR_A)", "$A"),
        ("$$$$(VAR_A)", "$$(VAR_A)"),
        ("$$$$$(VAR_A)", "$$A"),
        ("$$$$$$(VAR_A)", "$$$(VAR_A)"),
        ("$$", "$"),
        // A backslash means nothing.
        (r"foo\$(VAR_C)bar", r"foo\Cbar"),
        (r"foo\\$(VAR_C)bar", r"foo\\Cbar"),
        // Unknown names and broken references stay.
        ("$(VAR_DNE)", "$(VAR_DNE)"),
        ("$(VAR_A)$(VAR_DNE)", "A$(VAR_DNE)"),
        ("$()", "$()"),
        ("$(VAR_Awhoops!", "$(VAR_Awhoops!"),
        ("f00__(VAR_A)__", "f00__(VAR_A)__"),
        ("$?_boo-$!", "$?_boo-$!"),
        ("$VAR_A", "$VAR_A"),
        ("${VAR_A}", "${VAR_A}"),
        ("$VAR_B)", "$VAR_B)"),
        ("$((VAR_A)", "$((VAR_A)"),
        ("$(VAR_A$(VAR_B))", "$(VAR_A$(VAR_B))"),
        ("$(VAR_", "$(VAR_"),
        ("$(", "$("),
        ("$", "$"),
        ("foo$", "foo$"),
        ("\n$(VAR_A)\n", "\nA\n"),
        ("$ü$(VAR_A)", "$üA"),
        ("", ""),
    ];
    for (input, expected) in cases {
        assert_eq!(expand(input, lookup), expected, "{input:?}");
    }
}

/// Kubernetes' algorithm as its source has it: one cursor over bytes.
fn reference(input: &str) -> String {
    let bytes = input.as_bytes();
    let mut out = Vec::new();
    let mut cursor = 0;
    while cursor < bytes.len() {
        if bytes[cursor] != b'$' || cursor + 1 == bytes.len() {
            out.push(bytes[cursor]);
            cursor += 1;
            continue;
        }
        match bytes[cursor + 1] {
            b'$' => {
                out.push(b'$');
                cursor += 2;
            }
            b'(' => match bytes[cursor + 2..].iter().position(|b| *b == b')') {
                Some(length) => {
                    let name = &input[cursor + 2..cursor + 2 + length];
                    let unknown = format!("$({name})");
                    out.extend(lookup(name).unwrap_or(&unknown).bytes());
                    cursor += length + 3;
                }
                None => {
                    out.extend(b"$(");
                    cursor += 2;
                }
            },
            other => {
                out.extend([b'$', other]);
                cursor += 2;
            }
        }
    }
    String::from_utf8(out).unwrap()
}

proptest! {
    #[test]
    fn equals_kubernetes_algorithm(input in "(\\$|\\(|\\)|VAR_A|VAR_REF|x| ){0,24}") {
        prop_assert_eq!(expand(&input, lookup), reference(&input));
    }
}
