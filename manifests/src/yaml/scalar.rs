//! What a plain scalar means. kubectl reads YAML 1.1: `yes` is a boolean, `0644` is octal, `1_000` is a number.

/// A scalar after its meaning is settled.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Scalar {
    /// `null`, `~` or nothing at all.
    Null,
    /// `true`, `yes`, `on` and their opposites.
    Bool(bool),
    /// Decimal, octal, hexadecimal or binary.
    Int(i128),
    /// Anything with a point or an exponent.
    Float(f64),
    /// Everything else, and everything quoted.
    Str,
}

impl Scalar {
    /// The meaning of unquoted text.
    pub(crate) fn plain(text: &str) -> Scalar {
        match text {
            "" | "~" | "null" | "Null" | "NULL" => return Scalar::Null,
            "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => {
                return Scalar::Bool(true);
            }
            "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => {
                return Scalar::Bool(false);
            }
            ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => return Scalar::Float(f64::INFINITY),
            "-.inf" | "-.Inf" | "-.INF" => return Scalar::Float(f64::NEG_INFINITY),
            ".nan" | ".NaN" | ".NAN" => return Scalar::Float(f64::NAN),
            _ => {}
        }
        if !text.starts_with(|c: char| c.is_ascii_digit() || "+-.".contains(c)) {
            return Scalar::Str;
        }
        let digits: String = text.chars().filter(|&c| c != '_').collect();
        int(&digits).map(Scalar::Int).or_else(|| float(&digits).map(Scalar::Float)).unwrap_or(Scalar::Str)
    }

    /// What to call it in a message: `the number 8080`, `the boolean yes`.
    pub(crate) fn describe(&self, text: &str) -> String {
        match self {
            Scalar::Null => "nothing".to_owned(),
            Scalar::Bool(_) => format!("the boolean `{text}`"),
            Scalar::Int(_) | Scalar::Float(_) => format!("the number `{text}`"),
            Scalar::Str => format!("the string `{}`", crate::suggest::clip(text)),
        }
    }
}

fn int(text: &str) -> Option<i128> {
    let (negative, digits) = match text.strip_prefix(['+', '-']) {
        Some(rest) => (text.starts_with('-'), rest),
        None => (false, text),
    };
    let radix = |prefixes: [&str; 2], radix| {
        let digits = prefixes.iter().find_map(|p| digits.strip_prefix(p))?;
        unsigned(digits, radix)
    };
    let value = radix(["0x", "0X"], 16).or_else(|| radix(["0o", "0O"], 8)).or_else(|| radix(["0b", "0B"], 2)).or_else(
        || if digits.len() > 1 && digits.starts_with('0') { unsigned(digits, 8) } else { unsigned(digits, 10) },
    )?;
    Some(if negative { -value } else { value })
}

fn unsigned(digits: &str, radix: u32) -> Option<i128> {
    // `from_str_radix` takes a sign, which a second one must not slip through.
    digits.starts_with(|c: char| c.is_digit(radix)).then(|| i128::from_str_radix(digits, radix).ok())?
}

fn float(text: &str) -> Option<f64> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (unsigned, None),
    };
    let all_digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let exponent_fits = exponent.is_none_or(|e| {
        let digits = e.strip_prefix(['+', '-']).unwrap_or(e);
        !digits.is_empty() && all_digits(digits)
    });
    (all_digits(whole) && all_digits(fraction) && !(whole.is_empty() && fraction.is_empty()) && exponent_fits)
        .then(|| text.parse().ok())?
}
