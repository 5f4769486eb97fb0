//! How a command ended, as Kubernetes writes it: a `metav1.Status` since version 4, text before.

use serde::{Deserialize, Serialize};

use super::Version;
use crate::streaming::channels::Error;

/// How it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    /// With exit code 0; or an attach that came to its end.
    Success,
    /// With another exit code.
    ExitCode(i32),
    /// It could not be run, or something broke: an internal error, with the reason.
    Failure(String),
}

/// What of `metav1.Status` is used.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct Wire {
    status: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    message: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    reason: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<Details>,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<i32>,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct Details {
    causes: Vec<Cause>,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct Cause {
    reason: String,
    message: String,
}

const NON_ZERO: &str = "NonZeroExitCode";
const EXIT_CODE: &str = "ExitCode";

impl Status {
    /// As it goes over the error channel. Before version 4 success is nothing at all.
    pub(super) fn write(&self, version: Version) -> Vec<u8> {
        let (message, reason, code) = match self {
            Self::Success | Self::ExitCode(0) => (String::new(), "", None),
            Self::ExitCode(code) => (format!("command terminated with non-zero exit code: {code}"), NON_ZERO, None),
            Self::Failure(why) => (format!("Internal error occurred: {why}"), "InternalError", Some(500)),
        };
        if version < Version::V4 {
            return message.into_bytes();
        }
        let causes = |code| vec![Cause { reason: EXIT_CODE.into(), message: format!("{code}") }];
        let wire = Wire {
            status: if reason.is_empty() { "Success" } else { "Failure" }.into(),
            details: match self {
                Self::ExitCode(code) if *code != 0 => Some(Details { causes: causes(*code) }),
                _ => None,
            },
            reason: reason.into(),
            message,
            code,
        };
        // Strings and numbers alone: there is nothing in it that cannot be written.
        serde_json::to_vec(&wire).unwrap_or_default()
    }

    /// What came over the error channel.
    pub(super) fn read(bytes: &[u8], version: Version) -> Result<Self, Error> {
        if version < Version::V4 {
            let text = String::from_utf8_lossy(bytes);
            return Ok(if text.is_empty() { Self::Success } else { Self::Failure(text.into()) });
        }
        let broken = |why: String| Error::Protocol { protocol: "remote command", why };
        let wire: Wire = serde_json::from_slice(bytes).map_err(|error| broken(format!("a status: {error}")))?;
        match wire.status.as_str() {
            "Success" => Ok(Self::Success),
            "Failure" if wire.reason == NON_ZERO => {
                let causes = wire.details.unwrap_or_default().causes;
                let code = causes.iter().find(|it| it.reason == EXIT_CODE).and_then(|it| it.message.parse().ok());
                code.map(Self::ExitCode).ok_or_else(|| broken("a status without an exit code".into()))
            }
            "Failure" => Ok(Self::Failure(wire.message)),
            other => Err(broken(format!("a status {other:?}"))),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn it_is_written_as_kubelets_write_it_and_read_back() {
        let cases = [
            (Status::Success, r#"{"status":"Success"}"#),
            (
                Status::ExitCode(137),
                r#"{"status":"Failure","message":"command terminated with non-zero exit code: 137","reason":"NonZeroExitCode","details":{"causes":[{"reason":"ExitCode","message":"137"}]}}"#,
            ),
        ];
        for (status, text) in cases {
            assert_eq!(String::from_utf8(status.write(Version::V4)).unwrap(), text);
            assert_eq!(Status::read(text.as_bytes(), Version::V5).unwrap(), status);
        }
        let text = Status::Failure("no".into()).write(Version::V4);
        let why = Status::Failure("Internal error occurred: no".into());
        assert_eq!(Status::read(&text, Version::V4).unwrap(), why);
        assert!(Status::ExitCode(0).write(Version::V1).is_empty());
        assert_eq!(Status::read(b"", Version::V3).unwrap(), Status::Success);
    }

    #[test]
    fn what_is_no_status_is_an_error() {
        for text in ["", "{}", "[]", r#"{"status":"Maybe"}"#, r#"{"status":"Failure","reason":"NonZeroExitCode"}"#] {
            assert!(Status::read(text.as_bytes(), Version::V4).is_err(), "{text}");
        }
    }
}
