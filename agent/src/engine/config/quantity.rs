//! Kubernetes quantities (`100m`, `64Mi`, `1e3`) as whole numbers.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

/// How an amount is read.
pub type Read = fn(&Quantity) -> Option<i64>;

/// The value in units, rounded up as Kubernetes does; `None` when it cannot be read or does not fit.
pub fn value(quantity: &Quantity) -> Option<i64> {
    scaled(&quantity.0, 1)
}

/// The value in thousandths, rounded up.
pub fn milli(quantity: &Quantity) -> Option<i64> {
    scaled(&quantity.0, 1000)
}

fn scaled(text: &str, factor: i128) -> Option<i64> {
    let end = text.find(|c: char| !(c.is_ascii_digit() || matches!(c, '.' | '+' | '-'))).unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let (negative, number) = match number.as_bytes().first()? {
        b'-' => (true, &number[1..]),
        b'+' => (false, &number[1..]),
        _ => (false, number),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = format!("{whole}{fraction}");
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let mantissa: i128 = digits.parse().ok()?;
    let (multiplier, exponent) = scale_of(suffix)?;
    let exponent = exponent - i32::try_from(fraction.len()).ok()?;
    let mut numerator = mantissa.checked_mul(multiplier)?.checked_mul(factor)?;
    let mut denominator: i128 = 1;
    let power = 10i128.checked_pow(exponent.unsigned_abs())?;
    if exponent >= 0 {
        numerator = numerator.checked_mul(power)?;
    } else {
        denominator = power;
    }
    let rounded = numerator.div_euclid(denominator) + i128::from(numerator.rem_euclid(denominator) != 0);
    i64::try_from(if negative { -rounded } else { rounded }).ok()
}

/// A suffix as a multiplier and a power of ten.
fn scale_of(suffix: &str) -> Option<(i128, i32)> {
    Some(match suffix {
        "" => (1, 0),
        "n" => (1, -9),
        "u" => (1, -6),
        "m" => (1, -3),
        "k" => (1, 3),
        "M" => (1, 6),
        "G" => (1, 9),
        "T" => (1, 12),
        "P" => (1, 15),
        "E" => (1, 18),
        "Ki" => (1 << 10, 0),
        "Mi" => (1 << 20, 0),
        "Gi" => (1 << 30, 0),
        "Ti" => (1 << 40, 0),
        "Pi" => (1 << 50, 0),
        "Ei" => (1 << 60, 0),
        _ => (1, suffix.strip_prefix(['e', 'E'])?.parse().ok().filter(|power: &i32| power.abs() < 30)?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_read_in_every_form() {
        for (text, units, thousandths) in [
            ("0", Some(0), Some(0)),
            ("1", Some(1), Some(1000)),
            ("100m", Some(1), Some(100)),
            ("0.1", Some(1), Some(100)),
            ("1.5", Some(2), Some(1500)),
            (".5", Some(1), Some(500)),
            ("64Mi", Some(64 << 20), Some((64 << 20) * 1000)),
            ("1.5Gi", Some(3 << 29), Some((3 << 29) * 1000)),
            ("1e3", Some(1000), Some(1_000_000)),
            ("1E3", Some(1000), Some(1_000_000)),
            ("12e-3", Some(1), Some(12)),
            ("1k", Some(1000), Some(1_000_000)),
            ("100u", Some(1), Some(1)),
            ("1E", Some(1_000_000_000_000_000_000), None),
            ("-1", Some(-1), Some(-1000)),
            ("", None, None),
            ("x", None, None),
            ("1Q", None, None),
            ("1.2.3", None, None),
            ("99999999999999999999E", None, None),
        ] {
            let quantity = Quantity(text.to_owned());
            assert_eq!((value(&quantity), milli(&quantity)), (units, thousandths), "{text}");
        }
    }
}
