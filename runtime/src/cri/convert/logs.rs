//! When a container's log goes on in a new file.

use std::collections::HashMap;

use crate::container::LogLimits;
use crate::error::{Error, Result};

/// Bytes at which a log goes on in a new file. The CRI leaves that to the client; by these a client leaves it to the
/// runtime, which loses no time and no line over it.
const MAX_SIZE: &str = "coracle.dev/log-max-size";
/// How many files are kept, the one being written included.
const MAX_FILES: &str = "coracle.dev/log-max-files";

/// The limits in a container's annotations.
pub fn limits(annotations: &HashMap<String, String>) -> Result<Option<LogLimits>> {
    let max_size = number(annotations, MAX_SIZE, 1)?;
    // One to write to and one to look back at.
    let max_files = number(annotations, MAX_FILES, 2)?;
    match (max_size, max_files) {
        (Some(max_size), Some(max_files)) => {
            let max_files = u32::try_from(max_files).unwrap_or(u32::MAX);
            Ok(Some(LogLimits { max_size, max_files }))
        }
        (None, None) => Ok(None),
        _ => Err(Error::Invalid(format!("the annotations {MAX_SIZE} and {MAX_FILES} go together"))),
    }
}

fn number(annotations: &HashMap<String, String>, key: &str, least: u64) -> Result<Option<u64>> {
    let Some(text) = annotations.get(key) else { return Ok(None) };
    match text.parse() {
        Ok(number) if number >= least => Ok(Some(number)),
        _ => Err(Error::Invalid(format!("the annotation {key} is {text:?}; it is a whole number, {least} or more"))),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn limits(pairs: &[(&str, &str)]) -> Result<Option<LogLimits>> {
        super::limits(&pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect())
    }

    #[test]
    fn limits_are_given_both_or_not_at_all() {
        assert_eq!(limits(&[]).unwrap(), None);
        let both = limits(&[(MAX_SIZE, "1024"), (MAX_FILES, "2")]).unwrap();
        assert_eq!(both, Some(LogLimits { max_size: 1024, max_files: 2 }));
        assert!(limits(&[(MAX_SIZE, "1024")]).unwrap_err().to_string().contains("go together"));
    }

    #[test]
    fn a_limit_that_keeps_nothing_is_refused() {
        for (size, files) in [("0", "5"), ("10Mi", "5"), ("1024", "1"), ("1024", "-1")] {
            assert!(limits(&[(MAX_SIZE, size), (MAX_FILES, files)]).is_err(), "{size} {files}");
        }
    }
}
