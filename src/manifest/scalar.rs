//! What a scalar is to Kubernetes: kubectl reads YAML by the rules of go-yaml v2, which are YAML 1.1's, then makes JSON of it.
//!
//! A manifest must not mean one thing there and another here, so `yes`, `0644` and `1_000` are told apart from strings
//! exactly as there; the typed reader then refuses what would surprise.

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ScalarKind {
    Null,
    Bool(bool),
    /// `yes`, `on`, `n`, …: a bool in YAML 1.1, a string in YAML 1.2, trouble in both.
    LegacyBool(bool),
    Integer(i64),
    /// A whole number that no 64-bit integer holds.
    HugeInteger,
    Float,
    String,
}

impl ScalarKind {
    /// What an unquoted, untagged scalar is.
    pub(super) fn of_plain(text: &str) -> ScalarKind {
        match text {
            "" | "~" | "null" | "Null" | "NULL" => ScalarKind::Null,
            "true" | "True" | "TRUE" => ScalarKind::Bool(true),
            "false" | "False" | "FALSE" => ScalarKind::Bool(false),
            "y" | "Y" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" => ScalarKind::LegacyBool(true),
            "n" | "N" | "no" | "No" | "NO" | "off" | "Off" | "OFF" => ScalarKind::LegacyBool(false),
            _ => number(text).unwrap_or(ScalarKind::String),
        }
    }
}

fn number(text: &str) -> Option<ScalarKind> {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    if !unsigned.starts_with(|first: char| first.is_ascii_digit() || first == '.') {
        return None;
    }
    if matches!(unsigned, ".inf" | ".Inf" | ".INF") || matches!(text, ".nan" | ".NaN" | ".NAN") {
        return Some(ScalarKind::Float);
    }
    let negative = text.starts_with('-');
    // go-yaml drops underscores wherever they stand: 1_000 is a number.
    let digits = unsigned.replace('_', "");
    integer(&digits, negative).or_else(|| is_float(&digits).then_some(ScalarKind::Float))
}

fn integer(digits: &str, negative: bool) -> Option<ScalarKind> {
    let (radix, digits) = match digits.as_bytes() {
        [b'0', b'x' | b'X', ..] => (16, &digits[2..]),
        [b'0', b'b' | b'B', ..] => (2, &digits[2..]),
        [b'0', b'o' | b'O', ..] => (8, &digits[2..]),
        // The legacy octal of YAML 1.1: 0644 is 420.
        [b'0', _, ..] => (8, &digits[1..]),
        _ => (10, digits),
    };
    if digits.is_empty() || !digits.chars().all(|digit| digit.is_digit(radix)) {
        return None;
    }
    let Ok(magnitude) = i128::from_str_radix(digits, radix) else { return Some(ScalarKind::HugeInteger) };
    let value = if negative { -magnitude } else { magnitude };
    Some(i64::try_from(value).map_or(ScalarKind::HugeInteger, ScalarKind::Integer))
}

/// `[0-9]+(\.[0-9]*)?([eE][-+]?[0-9]+)?`, or with the digits only after the point.
fn is_float(text: &str) -> bool {
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (text, None),
    };
    let all_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let exponent_fits = exponent.is_none_or(|exponent| {
        let digits = exponent.strip_prefix(['-', '+']).unwrap_or(exponent);
        !digits.is_empty() && all_digits(digits)
    });
    !(whole.is_empty() && fraction.is_empty()) && all_digits(whole) && all_digits(fraction) && exponent_fits
}

#[cfg(test)]
mod tests {
    use super::ScalarKind::{self, Bool, Float, HugeInteger, Integer, LegacyBool, Null, String};

    #[test]
    fn plain_scalars_are_what_kubectl_reads() {
        let cases: &[(&str, ScalarKind)] = &[
            ("", Null),
            ("~", Null),
            ("null", Null),
            ("nULL", String),
            ("true", Bool(true)),
            ("FALSE", Bool(false)),
            ("tRUE", String),
            ("yes", LegacyBool(true)),
            ("n", LegacyBool(false)),
            ("0", Integer(0)),
            ("-0", Integer(0)),
            ("+7", Integer(7)),
            ("0644", Integer(420)),
            ("0o644", Integer(420)),
            ("0x1F", Integer(31)),
            ("-0b11", Integer(-3)),
            ("1_000", Integer(1000)),
            ("9223372036854775807", Integer(i64::MAX)),
            ("-9223372036854775808", Integer(i64::MIN)),
            ("9223372036854775808", HugeInteger),
            ("99999999999999999999999999999999999999999999", HugeInteger),
            ("1.5", Float),
            ("1.", Float),
            (".5", Float),
            ("1e3", Float),
            ("-.inf", Float),
            (".nan", Float),
            ("089", Float),
            (".", String),
            ("-", String),
            ("1.2.3", String),
            ("1e", String),
            ("0x", String),
            ("2001-01-01", String),
            ("1:30", String),
            ("5s", String),
            ("_1", String),
            ("Ünï", String),
        ];
        for (text, kind) in cases {
            assert_eq!(ScalarKind::of_plain(text), *kind, "{text:?}");
        }
    }
}
