use proptest::prelude::*;

use super::{NANOS, Quantity, QuantityError};

fn parse(text: &str) -> Result<Quantity, QuantityError> {
    text.parse()
}

fn of(text: &str) -> Quantity {
    parse(text).unwrap_or_else(|error| panic!("{text:?} {error}"))
}

fn nanos(text: &str) -> i128 {
    of(text).nanos()
}

#[test]
fn every_suffix() {
    let units = [
        ("", NANOS),
        ("n", 1),
        ("u", 1000),
        ("m", 1_000_000),
        ("k", NANOS * 1000),
        ("M", NANOS * 1_000_000),
        ("G", NANOS * 1_000_000_000),
        ("T", NANOS * 1_000_000_000_000),
        ("P", NANOS * 1_000_000_000_000_000),
        ("E", NANOS * 1_000_000_000_000_000_000),
        ("Ki", NANOS << 10),
        ("Mi", NANOS << 20),
        ("Gi", NANOS << 30),
        ("Ti", NANOS << 40),
        ("Pi", NANOS << 50),
        ("Ei", NANOS << 60),
        ("e3", NANOS * 1000),
        ("E+3", NANOS * 1000),
        ("e-3", NANOS / 1000),
    ];
    for (suffix, unit) in units {
        for (number, times) in [("1", 1), ("+2", 2), ("-3", -3), ("0", 0), ("007", 7)] {
            assert_eq!(nanos(&format!("{number}{suffix}")), times * unit, "{number}{suffix}");
        }
    }
}

#[test]
fn fractions() {
    assert_eq!(nanos("1.5Ki"), 1536 * NANOS);
    assert_eq!(nanos(".5"), NANOS / 2);
    assert_eq!(nanos("5."), 5 * NANOS);
    assert_eq!(nanos("0.1Mi"), 104_857_600_000_000);
    assert_eq!(nanos("1.1n"), 2, "finer than a billionth rounds away from zero");
    assert_eq!(nanos("-0.1n"), -1);
    assert_eq!(nanos("1e-2000000000"), 1);
    assert_eq!(nanos("0e2000000000"), 0);
    // 30 digits times 2^60: one unit in the last place must still be seen.
    assert_eq!(nanos("0.000000000000000000000000001Ei"), 2);
    assert_eq!(nanos("0.00000000000000000000000000000000000000001Ei"), 1);
}

#[test]
fn rounds_up_when_asked_for_units() {
    let quantity = of("1.0005");
    assert_eq!((quantity.value(), quantity.milli()), (2, 1001));
    assert_eq!(of("-1.5").value(), -2);
    assert_eq!(of("100u").milli(), 1);
}

#[test]
fn everything_else_is_refused() {
    for text in [
        "",
        "+",
        "-",
        ".",
        "1..",
        "1.2.3",
        "Ki",
        "1 Ki",
        " 1",
        "1 ",
        "1K",
        "1ki",
        "1KI",
        "1mi",
        "1g",
        "1kB",
        "1Kib",
        "1e",
        "1e+",
        "1ek",
        "1e1.5",
        "1e99999999999",
        "++1",
        "1-",
        "0x10",
        "1_000",
        "1,5",
        "١",
        "NaN",
        "inf",
        "64MiB",
        "1Zi",
    ] {
        assert_eq!(parse(text), Err(QuantityError::Syntax), "{text:?}");
    }
}

#[test]
fn the_largest() {
    assert_eq!(nanos("9223372036854775807"), i128::from(i64::MAX) * NANOS);
    assert_eq!(nanos("9.2E"), 9_200_000_000_000_000_000 * NANOS);
    for text in
        ["9223372036854775808", "9223372036854775807.1", "8Ei", "10E", "1e19", "1e2147483647", &"9".repeat(5000)]
    {
        assert_eq!(parse(text), Err(QuantityError::TooLarge), "{text:?}");
    }
}

proptest! {
    #[test]
    fn display_reads_back(nanos in -(i128::from(i64::MAX) * NANOS)..=(i128::from(i64::MAX) * NANOS)) {
        let quantity = Quantity { nanos };
        prop_assert_eq!(parse(&quantity.to_string()), Ok(quantity));
    }

    #[test]
    fn binary_suffixes_are_powers_of_1024(number in 0_u32..7, index in 0_usize..6) {
        let suffix = ["Ki", "Mi", "Gi", "Ti", "Pi", "Ei"][index];
        let power = 1_i128 << (10 * (index + 1));
        prop_assert_eq!(of(&format!("{number}{suffix}")).value(), i128::from(number) * power);
    }

    #[test]
    fn accepts_exactly_the_grammar(text in "[-+.0-9eEKMGTPinumk]{0,8}") {
        let grammar = {
            let unsigned = text.strip_prefix(['-', '+']).unwrap_or(&text);
            let number_end = unsigned.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(unsigned.len());
            let (number, suffix) = unsigned.split_at(number_end);
            let number_fits = number.matches('.').count() <= 1 && number.chars().any(|c| c.is_ascii_digit());
            let exponent = suffix.strip_prefix(['e', 'E']).map(|rest| rest.strip_prefix(['-', '+']).unwrap_or(rest));
            let exponent_fits = exponent.is_some_and(|rest| !rest.is_empty() && rest.chars().all(|c| c.is_ascii_digit()));
            let named = ["", "n", "u", "m", "k", "M", "G", "T", "P", "E", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"].contains(&suffix);
            number_fits && (named || exponent_fits)
        };
        prop_assert_eq!(parse(&text) != Err(QuantityError::Syntax), grammar, "{}", text);
    }

    #[test]
    fn never_panics(text in ".{0,40}") {
        let _ = parse(&text);
    }
}
