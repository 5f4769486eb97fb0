//! Whether text that comes in pieces is UTF-8.

/// What a piece has left open.
#[derive(Default)]
pub struct Utf8 {
    /// The beginning of a character.
    open: [u8; 4],
    length: usize,
}

impl Utf8 {
    /// Takes a piece. False when no continuation can make it UTF-8.
    pub fn take(&mut self, mut piece: &[u8]) -> bool {
        while self.length > 0 {
            let Some((first, rest)) = piece.split_first() else { return true };
            self.open[self.length] = *first;
            self.length += 1;
            piece = rest;
            match std::str::from_utf8(&self.open[..self.length]) {
                Ok(_) => self.length = 0,
                // The fourth byte completes a character or breaks it.
                Err(error) if error.error_len().is_some() || self.length == self.open.len() => return false,
                Err(_) => {}
            }
        }
        match std::str::from_utf8(piece) {
            Ok(_) => true,
            Err(error) if error.error_len().is_some() => false,
            Err(error) => {
                let rest = &piece[error.valid_up_to()..];
                self.length = rest.len();
                self.open[..rest.len()].copy_from_slice(rest);
                true
            }
        }
    }

    /// Whether the text may end here. The next begins anew.
    pub fn finish(&mut self) -> bool {
        std::mem::take(&mut self.length) == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_says_what_the_whole_would_wherever_it_is_cut() {
        for text in [
            &b"plain"[..],
            "gr\u{fc}\u{df} \u{4f60}\u{1f980}!".as_bytes(),
            b"\xed\xa0\x80",
            b"\xf4\x90\x80\x80",
            b"\xc0\xaf",
            b"\xe4\xbd",
        ] {
            for cut in 0..=text.len() {
                for second in cut..=text.len() {
                    let mut check = Utf8::default();
                    let pieces = [&text[..cut], &text[cut..second], &text[second..]];
                    let valid = pieces.iter().all(|it| check.take(it)) && check.finish();
                    assert_eq!(valid, std::str::from_utf8(text).is_ok(), "{text:?} cut at {cut} and {second}");
                }
            }
        }
    }
}
