//! Labels and annotations as the downward API writes them into a file: a line each, `key="value"`, sorted by key, the
//! value quoted as Go does it.

use std::collections::BTreeMap;
use std::fmt::Write as _;

/// All entries of a map.
pub(super) fn map(map: Option<&BTreeMap<String, String>>) -> String {
    let lines = map.into_iter().flatten().map(|(key, value)| format!("{key}={}", quoted(value)));
    lines.collect::<Vec<_>>().join("\n")
}

/// Go's `%q`.
fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        let code = u32::from(c);
        let short = match c {
            '"' => Some('"'),
            '\\' => Some('\\'),
            '\n' => Some('n'),
            '\r' => Some('r'),
            '\t' => Some('t'),
            '\u{7}' => Some('a'),
            '\u{8}' => Some('b'),
            '\u{b}' => Some('v'),
            '\u{c}' => Some('f'),
            _ => None,
        };
        // Writing to a string cannot fail.
        let _ = match short {
            Some(letter) => write!(out, "\\{letter}"),
            None if c == ' ' || !(c.is_control() || c.is_whitespace()) => write!(out, "{c}"),
            None if code < 0x80 => write!(out, "\\x{code:02x}"),
            None => write!(out, "\\u{code:04x}"),
        };
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_quoted_as_go_quotes_them() {
        for (text, expected) in [
            ("", r#""""#),
            ("plain text", r#""plain text""#),
            ("a\"b\\c", r#""a\"b\\c""#),
            ("line\nline\ttab\r", r#""line\nline\ttab\r""#),
            ("\u{7}\u{8}\u{b}\u{c}\u{1}\u{7f}", r#""\a\b\v\f\x01\x7f""#),
            ("ünï ✓", r#""ünï ✓""#),
            ("a\u{a0}b\u{85}", r#""a\u00a0b\u0085""#),
        ] {
            assert_eq!(quoted(text), expected);
        }
    }

    #[test]
    fn a_map_is_written_a_line_an_entry() {
        let entries = BTreeMap::from([("b".to_owned(), "2".to_owned()), ("a".to_owned(), "1".to_owned())]);
        assert_eq!(map(Some(&entries)), "a=\"1\"\nb=\"2\"");
        assert_eq!(map(None), "");
    }
}
