//! Kubernetes' quantities: `64Mi`, `0.5`, `100m`, `1e3`.
//!
//! The grammar is the one in the comment of `k8s.io/apimachinery/pkg/api/resource.Quantity`:
//!
//! ```text
//! quantity = [+|-] number suffix
//! number   = digits | digits.digits | digits. | .digits
//! suffix   = Ki Mi Gi Ti Pi Ei | n u m "" k M G T P E | (e|E) [+|-] digits
//! ```
//!
//! As there, what is finer than a billionth is rounded away from zero. Unlike there, what is beyond 2⁶³−1 is an error and
//! is not silently lowered to it.

use std::fmt;

/// An exact amount, in billionths.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Quantity {
    nanos: i128,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    #[error("is not a quantity: a number, then one of Ki Mi Gi Ti Pi Ei, m k M G T P E, or an exponent like e3")]
    Syntax,
    #[error("is more than a quantity may be (2^63-1, about 9.2E)")]
    TooLarge,
}

const NANOS: i128 = 1_000_000_000;
const NANO_DIGITS: i64 = 9;
/// 2⁶³−1 billions have 28 digits; 38 always fit an `i128`.
const MAX_DIGITS: usize = 38;

impl Quantity {
    /// Whole units; with a negative amount or a fraction, rounded away from zero.
    #[must_use]
    pub fn value(self) -> i128 {
        self.in_units_of(NANOS)
    }

    /// Thousandths, as for cpu; rounded away from zero.
    #[must_use]
    pub fn milli(self) -> i128 {
        self.in_units_of(NANOS / 1000)
    }

    /// Billionths; exact.
    #[must_use]
    pub fn nanos(self) -> i128 {
        self.nanos
    }

    fn in_units_of(self, unit: i128) -> i128 {
        let whole = self.nanos / unit;
        if self.nanos % unit == 0 { whole } else { whole + self.nanos.signum() }
    }
}

/// In the shortest exact decimal form, without a suffix: `0.5`, `67108864`.
impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.nanos < 0 { "-" } else { "" };
        let magnitude = self.nanos.unsigned_abs();
        let (whole, fraction) = (magnitude / NANOS.unsigned_abs(), magnitude % NANOS.unsigned_abs());
        write!(f, "{sign}{whole}")?;
        if fraction == 0 {
            return Ok(());
        }
        write!(f, ".{}", format!("{fraction:09}").trim_end_matches('0'))
    }
}

impl std::str::FromStr for Quantity {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Quantity, QuantityError> {
        let (negative, unsigned) = match text.as_bytes().first() {
            Some(b'-') => (true, &text[1..]),
            Some(b'+') => (false, &text[1..]),
            _ => (false, text),
        };
        let end = unsigned.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(unsigned.len());
        let (number, suffix) = unsigned.split_at(end);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
            return Err(QuantityError::Syntax);
        }
        let scale = Scale::parse(suffix)?;

        let mut digits: Vec<u8> = whole.bytes().chain(fraction.bytes()).map(|byte| byte - b'0').collect();
        for _ in 0..scale.kibi {
            multiply_by_1024(&mut digits);
        }
        let fraction_digits = i64::try_from(fraction.len()).map_err(|_| QuantityError::Syntax)?;
        let magnitude = shifted(&digits, scale.exponent - fraction_digits + NANO_DIGITS)?;
        if magnitude / NANOS > i128::from(i64::MAX)
            || (magnitude / NANOS == i128::from(i64::MAX) && magnitude % NANOS > 0)
        {
            return Err(QuantityError::TooLarge);
        }
        Ok(Quantity { nanos: if negative { -magnitude } else { magnitude } })
    }
}

/// What a suffix multiplies by: 10^`exponent` × 1024^`kibi`.
struct Scale {
    exponent: i64,
    kibi: u32,
}

impl Scale {
    fn parse(suffix: &str) -> Result<Scale, QuantityError> {
        const BINARY: [&str; 6] = ["Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
        const DECIMAL: [(&str, i64); 10] =
            [("n", -9), ("u", -6), ("m", -3), ("", 0), ("k", 3), ("M", 6), ("G", 9), ("T", 12), ("P", 15), ("E", 18)];
        if let Some(kibi) = (1..).zip(BINARY).find_map(|(kibi, name)| (name == suffix).then_some(kibi)) {
            return Ok(Scale { exponent: 0, kibi });
        }
        if let Some((_, exponent)) = DECIMAL.into_iter().find(|(name, _)| *name == suffix) {
            return Ok(Scale { exponent, kibi: 0 });
        }
        let exponent = suffix.strip_prefix(['e', 'E']).ok_or(QuantityError::Syntax)?;
        // i32 as in Kubernetes, and far from overflowing the sums above.
        let exponent: i32 = exponent.parse().map_err(|_| QuantityError::Syntax)?;
        Ok(Scale { exponent: i64::from(exponent), kibi: 0 })
    }
}

/// In place, on decimal digits, because a fraction may have more of them than any integer type: `0.…1Ei` must be exact.
fn multiply_by_1024(digits: &mut Vec<u8>) {
    let mut carry = 0_u32;
    for digit in digits.iter_mut().rev() {
        let product = u32::from(*digit) * 1024 + carry;
        *digit = (product % 10) as u8;
        carry = product / 10;
    }
    while carry > 0 {
        digits.insert(0, (carry % 10) as u8);
        carry /= 10;
    }
}

/// `digits` × 10^`places`, rounded up to a whole number.
fn shifted(digits: &[u8], places: i64) -> Result<i128, QuantityError> {
    let zeros = digits.iter().take_while(|digit| **digit == 0).count();
    let digits = &digits[zeros..];
    if digits.is_empty() {
        return Ok(0);
    }
    let cut = usize::try_from(-places).unwrap_or(0).min(digits.len());
    let added = usize::try_from(places).unwrap_or(0);
    let (kept, dropped) = digits.split_at(digits.len() - cut);
    if kept.len().saturating_add(added) > MAX_DIGITS {
        return Err(QuantityError::TooLarge);
    }
    let mut magnitude = kept.iter().fold(0_i128, |sum, digit| sum * 10 + i128::from(*digit));
    magnitude *= 10_i128.pow(added as u32);
    Ok(magnitude + i128::from(dropped.iter().any(|digit| *digit > 0)))
}

#[cfg(test)]
#[path = "quantity_tests.rs"]
mod tests;
