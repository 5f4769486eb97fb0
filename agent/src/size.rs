//! Amounts of bytes as a pod writes them: `64Mi`, `1G`, `4096`.

/// Reads a Kubernetes quantity of bytes, whole numbers only.
pub fn parse(text: &str) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, suffix) = text.split_at(digits);
    let factor: u64 = match suffix {
        "" => 1,
        "k" => 1000,
        "M" => 1000_u64.pow(2),
        "G" => 1000_u64.pow(3),
        "T" => 1000_u64.pow(4),
        "Ki" => 1 << 10,
        "Mi" => 1 << 20,
        "Gi" => 1 << 30,
        "Ti" => 1 << 40,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(factor)
}

/// [`parse`] for a flag.
pub fn flag(text: &str) -> Result<u64, String> {
    parse(text).ok_or_else(|| "not an amount of bytes such as 4096, 64Mi or 10G".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_written_as_in_a_pod() {
        for (text, bytes) in [
            ("4096", Some(4096)),
            ("64Mi", Some(64 << 20)),
            ("1G", Some(1_000_000_000)),
            ("1.5Gi", None),
            ("Mi", None),
            ("64MB", None),
            ("-1", None),
            ("99999999999Gi", None),
        ] {
            assert_eq!(parse(text), bytes, "{text}");
        }
    }
}
