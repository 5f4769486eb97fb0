//! Kubernetes quantities: `500m`, `1.5`, `64Mi`, `1e3`. Exact to a billionth, as the API server keeps them.

use std::fmt;
use std::str::FromStr;

const NANO: i128 = 1_000_000_000;
/// The API server holds quantities to the range of an `int64`; larger ones are cut to it.
const LARGEST: i128 = i64::MAX as i128 * NANO;

/// An amount with its notation. Compares by amount alone.
#[derive(Clone, Copy, Debug)]
pub struct Quantity {
    nano: i128,
    notation: Notation,
}

/// How an amount was written, which its canonical form keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Notation {
    /// `m`, `k`, `M`…
    Decimal,
    /// `Ki`, `Mi`…
    Binary,
    /// `e3`
    Exponent,
}

/// Why a text is no quantity.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Nothing, or a suffix alone.
    #[error("`{0}` has no number")]
    NoNumber(String),
    /// A suffix that Kubernetes does not know.
    #[error("`{suffix}` is no unit of a quantity")]
    Suffix {
        /// What follows the number.
        suffix: String,
    },
    /// More digits than any amount has.
    #[error("`{0}` is too large")]
    TooLarge(String),
}

impl Quantity {
    /// An amount from billionths.
    pub fn from_nano(nano: i128) -> Quantity {
        Quantity { nano: nano.clamp(-LARGEST, LARGEST), notation: Notation::Decimal }
    }

    /// The amount in billionths, exactly.
    pub fn nano(&self) -> i128 {
        self.nano
    }

    /// Thousandths, rounded up: what a CPU amount means.
    pub fn milli(&self) -> i64 {
        self.scaled(NANO / 1000)
    }

    /// Whole units, rounded up: what a number of bytes means.
    pub fn units(&self) -> i64 {
        self.scaled(NANO)
    }

    /// The sum, in the notation of `other`, or of this one where `other` is 0.
    pub fn plus(&self, other: &Quantity) -> Quantity {
        let notation = if other.is_zero() { self.notation } else { other.notation };
        Quantity { notation, ..Quantity::from_nano(self.nano + other.nano) }
    }

    /// True of 0 alone.
    pub fn is_zero(&self) -> bool {
        self.nano == 0
    }

    fn scaled(&self, unit: i128) -> i64 {
        let rounded = self.nano.div_euclid(unit) + i128::from(self.nano.rem_euclid(unit) != 0);
        rounded.clamp(i128::from(i64::MIN), i128::from(i64::MAX)) as i64
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Quantity) -> bool {
        self.nano == other.nano
    }
}

impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Quantity) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Quantity) -> std::cmp::Ordering {
        self.nano.cmp(&other.nano)
    }
}

impl TryFrom<&k8s_openapi::apimachinery::pkg::api::resource::Quantity> for Quantity {
    type Error = Error;

    fn try_from(quantity: &k8s_openapi::apimachinery::pkg::api::resource::Quantity) -> Result<Quantity, Error> {
        quantity.0.parse()
    }
}

impl FromStr for Quantity {
    type Err = Error;

    fn from_str(text: &str) -> Result<Quantity, Error> {
        let (negative, unsigned) = match text.strip_prefix(['+', '-']) {
            Some(rest) => (text.starts_with('-'), rest),
            None => (false, text),
        };
        let end = unsigned.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(unsigned.len());
        let (number, suffix) = unsigned.split_at(end);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
            return Err(Error::NoNumber(crate::suggest::clip(text)));
        }
        let (notation, scale) = scale(suffix)?;
        let nano = amount(whole, fraction, scale).ok_or_else(|| Error::TooLarge(crate::suggest::clip(text)))?;
        let nano = nano.min(LARGEST);
        Ok(Quantity { nano: if negative { -nano } else { nano }, notation })
    }
}

/// What a suffix multiplies by.
#[derive(Clone, Copy)]
enum Scale {
    Ten(i32),
    Two(u32),
}

const DECIMAL: [(&str, i32); 10] =
    [("n", -9), ("u", -6), ("m", -3), ("", 0), ("k", 3), ("M", 6), ("G", 9), ("T", 12), ("P", 15), ("E", 18)];
const BINARY: [(&str, u32); 6] = [("Ki", 10), ("Mi", 20), ("Gi", 30), ("Ti", 40), ("Pi", 50), ("Ei", 60)];

fn scale(suffix: &str) -> Result<(Notation, Scale), Error> {
    if let Some((_, power)) = DECIMAL.iter().find(|(name, _)| *name == suffix) {
        return Ok((Notation::Decimal, Scale::Ten(*power)));
    }
    if let Some((_, power)) = BINARY.iter().find(|(name, _)| *name == suffix) {
        return Ok((Notation::Binary, Scale::Two(*power)));
    }
    let unknown = || Error::Suffix { suffix: crate::suggest::clip(suffix) };
    let digits = suffix.strip_prefix(['e', 'E']).ok_or_else(unknown)?;
    let power: i32 = digits.parse().map_err(|_| unknown())?;
    Ok((Notation::Exponent, Scale::Ten(power.clamp(-1000, 1000))))
}

/// Billionths of `whole.fraction` at a scale, rounded away from zero; `None` where even an `i128` is too small.
fn amount(whole: &str, fraction: &str, scale: Scale) -> Option<i128> {
    let fraction = fraction.trim_end_matches('0');
    let digits = format!("{whole}{fraction}");
    let digits = digits.trim_start_matches('0');
    let mantissa: i128 = if digits.is_empty() { return Some(0) } else { digits.parse().ok()? };
    let places = i32::try_from(fraction.len()).ok()?;
    let (power, mantissa) = match scale {
        Scale::Ten(power) => (power - places + 9, mantissa),
        Scale::Two(power) => (9 - places, mantissa.checked_mul(1 << power)?),
    };
    let ten = |power: i32| u32::try_from(power).ok().and_then(|power| 10_i128.checked_pow(power));
    if power >= 0 {
        return ten(power).and_then(|factor| mantissa.checked_mul(factor)).map_or(Some(LARGEST), Some);
    }
    // Smaller than a billionth, whatever it is: the least there is.
    let Some(divisor) = ten(-power) else { return Some(1) };
    Some(mantissa / divisor + i128::from(mantissa % divisor != 0))
}

impl fmt::Display for Quantity {
    /// The canonical form: no fraction, and the largest unit that allows that.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nano == 0 {
            return f.write_str("0");
        }
        let whole = self.nano / NANO;
        // Kubernetes writes what is below 1024, or not whole, in decimal even if it came with a binary unit.
        if self.notation == Notation::Binary && self.nano % NANO == 0 && whole.abs() >= 1024 {
            let (name, power) =
                BINARY.iter().rev().find(|(_, power)| whole % (1_i128 << power) == 0).copied().unwrap_or(("", 0));
            return write!(f, "{}{name}", whole >> power);
        }
        let units = DECIMAL.iter().rev().map(|(name, power)| (name, power, 10_i128.pow((power + 9).unsigned_abs())));
        for (name, power, unit) in units {
            if self.nano % unit == 0 {
                let count = self.nano / unit;
                return match (self.notation, power) {
                    (Notation::Exponent, 0) => write!(f, "{count}"),
                    (Notation::Exponent, power) => write!(f, "{count}e{power}"),
                    _ => write!(f, "{count}{name}"),
                };
            }
        }
        // Unreachable: every amount is a whole number of billionths.
        write!(f, "{}n", self.nano)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn each_notation_is_read_exactly() {
        for (text, nano, canonical) in [
            ("0", 0, "0"),
            ("1", NANO, "1"),
            ("100m", NANO / 10, "100m"),
            ("0.1", NANO / 10, "100m"),
            (".5", NANO / 2, "500m"),
            ("5.", 5 * NANO, "5"),
            ("+2", 2 * NANO, "2"),
            ("-1.5", -3 * NANO / 2, "-1500m"),
            ("1Ki", 1024 * NANO, "1Ki"),
            ("1.5Gi", 1536 * 1024 * 1024 * NANO, "1536Mi"),
            ("512Ki", 512 * 1024 * NANO, "512Ki"),
            ("1k", 1000 * NANO, "1k"),
            ("1e3", 1000 * NANO, "1e3"),
            ("1E-3", NANO / 1000, "1e-3"),
            ("12E", 12 * NANO * 10_i128.pow(18), "9223372036854775807"),
            ("1n", 1, "1n"),
            ("0.1n", 1, "1n"),
            ("1e-400", 1, "1e-9"),
            ("3u", 3000, "3u"),
            ("1000000000000000000000000", LARGEST, "9223372036854775807"),
        ] {
            let quantity: Quantity = text.parse().unwrap();
            assert_eq!(quantity.nano(), nano.min(LARGEST), "{text}");
            assert_eq!(quantity.to_string(), canonical, "{text}");
        }
    }

    #[test]
    fn what_kubernetes_refuses_is_refused() {
        for text in ["", "m", "1 ", " 1", "1.2.3", "1Kb", "1mi", "1K", "--1", "e3", "1e", "1e1.5", "0x10", "1_000", "٣"]
        {
            assert!(text.parse::<Quantity>().is_err(), "{text}");
        }
    }

    #[test]
    fn cpu_and_bytes_round_up() {
        let quantity = |text: &str| text.parse::<Quantity>().unwrap();
        assert_eq!(quantity("0.0001").milli(), 1);
        assert_eq!(quantity("1.5").milli(), 1500);
        assert_eq!(quantity("1.5").units(), 2);
        assert_eq!(quantity("100m").units(), 1);
        assert_eq!(quantity("64Mi").units(), 64 << 20);
        assert!(quantity("1Gi") > quantity("1G"));
        assert_eq!(quantity("1000m"), quantity("1"));
    }

    proptest! {
        #[test]
        fn the_canonical_form_means_the_same_and_is_its_own_canonical_form(
            nano in -LARGEST..LARGEST, notation in 0..3,
        ) {
            let notation = [Notation::Decimal, Notation::Binary, Notation::Exponent][notation as usize];
            let quantity = Quantity { nano, notation };
            let text = quantity.to_string();
            let again: Quantity = text.parse().unwrap();
            prop_assert_eq!(again.nano(), nano);
            prop_assert_eq!(again.to_string(), text);
        }

        #[test]
        fn whole_numbers_with_a_unit_multiply(count in 0_i64..8_000_000, unit in 0..6_usize) {
            let (name, power) = BINARY[unit];
            let quantity: Quantity = format!("{count}{name}").parse().unwrap();
            let expected = (i128::from(count) << power).min(i128::from(i64::MAX));
            prop_assert_eq!(i128::from(quantity.units()), expected);
        }

        #[test]
        fn no_text_panics(text in ".*") {
            let _ = text.parse::<Quantity>();
        }
    }
}
