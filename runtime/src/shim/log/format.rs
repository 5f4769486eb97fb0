//! The CRI log format, sans I/O: bytes of a stream in, lines with time, stream and tag out.
//!
//! ```text
//! 2026-01-02T03:04:05.678901234Z stdout F a whole line
//! 2026-01-02T03:04:05.678901234Z stderr P the first 16 KiB of a long one
//! ```

use crate::logs::civil;

/// The longest piece of a line, in bytes: what kubelet's readers and containerd use.
pub const MAX_LINE: usize = 16 * 1024;

/// Splits one stream into CRI lines.
#[derive(Debug, Default)]
pub struct Splitter {
    /// The beginning of a line whose end has not come.
    pending: Vec<u8>,
}

impl Splitter {
    /// Takes bytes and appends whole log lines to `out`, each stamped with `time` (`seconds`, `nanoseconds` since 1970).
    /// Answers how many lines that were.
    pub fn feed(&mut self, mut bytes: &[u8], stream: &str, time: (i64, u32), out: &mut Vec<u8>) -> u64 {
        let mut lines = 0;
        while !bytes.is_empty() {
            let room = MAX_LINE - self.pending.len();
            let end = bytes.iter().take(room).position(|&byte| byte == b'\n');
            let (piece, tag, rest) = match end {
                Some(end) => (&bytes[..end], Some("F"), &bytes[end + 1..]),
                None if bytes.len() >= room => (&bytes[..room], Some("P"), &bytes[room..]),
                None => (bytes, None, &bytes[..0]),
            };
            match tag {
                Some(tag) => {
                    prefix(time, stream, tag, out);
                    out.append(&mut self.pending);
                    out.extend_from_slice(piece);
                    out.push(b'\n');
                    lines += 1;
                }
                None => self.pending.extend_from_slice(piece),
            }
            bytes = rest;
        }
        lines
    }

    /// Ends the stream: a line without a newline is written as it is.
    pub fn finish(&mut self, stream: &str, time: (i64, u32), out: &mut Vec<u8>) -> u64 {
        if self.pending.is_empty() {
            return 0;
        }
        prefix(time, stream, "F", out);
        out.append(&mut self.pending);
        out.push(b'\n');
        1
    }
}

/// Appends the time, the stream and the tag of a line.
pub fn prefix((seconds, nanoseconds): (i64, u32), stream: &str, tag: &str, out: &mut Vec<u8>) {
    use std::io::Write as _;
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    // Writing to a Vec cannot fail.
    let _ = write!(
        out,
        "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{nanoseconds:09}Z {stream} {tag} "
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn split(chunks: &[&[u8]]) -> Vec<(String, Vec<u8>)> {
        let (mut splitter, mut out) = (Splitter::default(), Vec::new());
        for chunk in chunks {
            splitter.feed(chunk, "stdout", (0, 0), &mut out);
        }
        splitter.finish("stdout", (0, 0), &mut out);
        let mut lines: Vec<&[u8]> = out.split(|&byte| byte == b'\n').collect();
        assert_eq!(lines.pop(), Some(&b""[..]), "the log ends with a newline");
        let start = "1970-01-01T00:00:00.000000000Z stdout ".len();
        lines.iter().map(|it| ((it[start] as char).to_string(), it[start + 2..].to_vec())).collect()
    }

    #[test]
    fn dates_are_right_on_leap_days_and_before_1970() {
        for (seconds, expected) in [
            (0, "1970-01-01T00:00:00"),
            (951_782_400, "2000-02-29T00:00:00"),
            (1_709_164_799, "2024-02-28T23:59:59"),
            (4_102_444_800, "2100-01-01T00:00:00"),
            (-1, "1969-12-31T23:59:59"),
        ] {
            let mut out = Vec::new();
            prefix((seconds, 7), "stdout", "F", &mut out);
            assert_eq!(String::from_utf8_lossy(&out), format!("{expected}.000000007Z stdout F "));
        }
    }

    #[test]
    fn a_line_longer_than_the_limit_is_cut_into_partial_ones() {
        let long = vec![b'x'; 2 * MAX_LINE + 5];
        let lines = split(&[&long, b"\nend"]);
        let lengths: Vec<_> = lines.iter().map(|(tag, text)| (tag.as_str(), text.len())).collect();
        assert_eq!(lengths, [("P", MAX_LINE), ("P", MAX_LINE), ("F", 5), ("F", 3)]);
    }

    #[test]
    fn empty_lines_are_kept() {
        let lines = split(&[b"\n\na\n"]);
        assert_eq!(lines.iter().map(|it| it.1.as_slice()).collect::<Vec<_>>(), [&b""[..], b"", b"a"]);
    }

    proptest! {
        // Each case makes and shrinks a hundred kilobytes.
        #![proptest_config(ProptestConfig::with_cases(16))]
        #[test]
        fn what_went_in_comes_out_however_it_was_cut(chunks in prop::collection::vec(prop::collection::vec(prop_oneof![Just(b'\n'), any::<u8>()], 0..40_000), 0..6)) {
            let borrowed: Vec<&[u8]> = chunks.iter().map(Vec::as_slice).collect();
            let whole = chunks.concat();
            let mut again = Vec::new();
            for (tag, text) in split(&borrowed) {
                prop_assert!(text.len() <= MAX_LINE);
                again.extend_from_slice(&text);
                if tag == "F" { again.push(b'\n'); }
            }
            if whole.last().is_some_and(|&byte| byte != b'\n') { prop_assert_eq!(again.pop(), Some(b'\n')); }
            prop_assert_eq!(again, whole);
        }
    }
}
