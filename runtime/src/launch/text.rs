//! Text as the kernel has it: bytes, which need not be UTF-8.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Bytes that nearly always are UTF-8. In JSON they are a string then, and a list of numbers otherwise.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Text(Vec<u8>);

impl Text {
    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// What comes after `prefix`, if that is its beginning.
    pub fn strip_prefix(&self, prefix: &str) -> Option<&[u8]> {
        self.0.strip_prefix(prefix.as_bytes())
    }
}

impl From<Vec<u8>> for Text {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        Self(text.as_bytes().to_vec())
    }
}

impl From<String> for Text {
    fn from(text: String) -> Self {
        Self(text.into_bytes())
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&String::from_utf8_lossy(&self.0), f)
    }
}

impl Serialize for Text {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match std::str::from_utf8(&self.0) {
            Ok(text) => text.serialize(serializer),
            Err(_) => self.0.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Stored {
            Utf8(String),
            Bytes(Vec<u8>),
        }
        Ok(match Stored::deserialize(deserializer)? {
            Stored::Utf8(text) => text.into(),
            Stored::Bytes(bytes) => bytes.into(),
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn utf8_is_a_string_in_json_and_other_bytes_come_through_too() {
        let texts: Vec<Text> = vec!["A=ä".into(), vec![b'A', b'=', 0xff, 0xfe].into(), Text::default()];
        let json = serde_json::to_string(&texts).unwrap();
        assert_eq!(json, r#"["A=ä",[65,61,255,254],""]"#);
        assert_eq!(serde_json::from_str::<Vec<Text>>(&json).unwrap(), texts);
    }
}
