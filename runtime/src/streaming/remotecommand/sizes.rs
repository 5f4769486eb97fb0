//! The sizes of a terminal, as JSON objects one after another.

use serde::{Deserialize, Serialize};

use super::Size;

/// More than any size needs: who sends more without an end sends no sizes.
const MOST: usize = 4096;

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Wire {
    #[serde(default, alias = "width")]
    width: u16,
    #[serde(default, alias = "height")]
    height: u16,
}

/// As it goes over the channel: what Go's encoder writes, with its line end.
pub(super) fn write(size: Size) -> Vec<u8> {
    format!("{{\"Width\":{},\"Height\":{}}}\n", size.width, size.height).into_bytes()
}

/// Takes the first whole size off what came. `None` when what came is no size: no more will be understood. `Some(None)`
/// when more must come.
pub(super) fn next(pending: &mut Vec<u8>) -> Option<Option<Size>> {
    let mut sizes = serde_json::Deserializer::from_slice(pending).into_iter::<Wire>();
    match sizes.next() {
        None => {
            pending.clear();
            Some(None)
        }
        Some(Ok(size)) => {
            let taken = sizes.byte_offset();
            pending.drain(..taken);
            Some(Some(Size { width: size.width, height: size.height }))
        }
        Some(Err(error)) if error.is_eof() && pending.len() < MOST => Some(None),
        Some(Err(_)) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_come_one_after_another_and_in_pieces() {
        let mut pending = b"{\"Width\":80,\"Height\":24}\n {\"Height\":1,\"Width\":2}{\"Wid".to_vec();
        assert_eq!(next(&mut pending), Some(Some(Size { width: 80, height: 24 })));
        assert_eq!(next(&mut pending), Some(Some(Size { width: 2, height: 1 })));
        assert_eq!(next(&mut pending), Some(None));
        pending.extend_from_slice(b"th\":3}");
        assert_eq!(next(&mut pending), Some(Some(Size { width: 3, height: 0 })));
    }

    #[test]
    fn what_is_no_size_ends_them() {
        assert_eq!(next(&mut b"{\"Width\":-1}".to_vec()), None);
        assert_eq!(next(&mut vec![b' '; MOST]), Some(None));
        assert_eq!(next(&mut [b"{\"Width\"".as_slice(), &[b' '; MOST]].concat()), None);
    }
}
