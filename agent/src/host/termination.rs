//! Termination messages: a small file that a container may write its last words to.

use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use super::{HostError, io_error, make_dir};

/// The most that is read of a message, as in kubelet.
const MAX_BYTES: u64 = 4096;

/// Makes the empty file, writable for whoever the container runs as.
pub fn create(path: &Path) -> Result<(), HostError> {
    if let Some(parent) = path.parent() {
        make_dir(parent, 0o750)?;
    }
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o666);
    let file = options.open(path).map_err(io_error("make", path))?;
    file.set_permissions(std::fs::Permissions::from_mode(0o666)).map_err(io_error("set the mode of", path))
}

/// Reads the message; the empty one when there is none. The container owns the content, so it is cut and cleaned.
pub fn read(path: &Path) -> String {
    // The file is the container's to replace only inside its own mount: here it stays the one that was made.
    let Ok(file) = std::fs::OpenOptions::new().read(true).custom_flags(nofollow()).open(path) else {
        return String::new();
    };
    let mut bytes = Vec::new();
    match file.take(MAX_BYTES).read_to_end(&mut bytes) {
        Ok(_) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(_) => String::new(),
    }
}

/// The end of a CRI log, for `FallbackToLogsOnError`: at most 80 lines or 2 KiB.
pub fn tail(log: &Path) -> String {
    let Ok(mut file) = std::fs::File::open(log) else { return String::new() };
    let size = file.metadata().map_or(0, |metadata| metadata.len());
    let mut bytes = Vec::new();
    // Each line carries a time and a stream besides its text.
    if file.seek(SeekFrom::Start(size.saturating_sub(16 * 1024))).is_err() || file.read_to_end(&mut bytes).is_err() {
        return String::new();
    }
    let mut lines: Vec<String> = Vec::new();
    for line in bytes.split(|byte| *byte == b'\n') {
        if let Some(line) = crate::logs::parse(line) {
            lines.push(String::from_utf8_lossy(line.content).into_owned());
        }
    }
    let last = lines.split_off(lines.len().saturating_sub(80));
    let text = last.join("\n");
    let cut = text.len().saturating_sub(2048);
    let start = (cut..=text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(text.len());
    text[start..].to_owned()
}

fn nofollow() -> i32 {
    i32::try_from(rustix::fs::OFlags::NOFOLLOW.bits()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn messages_are_read_and_cut() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c/0");
        assert_eq!(read(&path), "");
        create(&path).unwrap();
        assert_eq!(read(&path), "");
        std::fs::write(&path, "x".repeat(5000)).unwrap();
        assert_eq!(read(&path).len(), 4096);
    }

    #[test]
    fn a_log_s_tail_stands_in() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.log");
        let lines: String = (0..200).map(|n| format!("2026-11-22T18:31:45Z stdout F line {n}\n")).collect();
        std::fs::write(&path, lines).unwrap();
        let tail = tail(&path);
        assert_eq!(tail.lines().count(), 80);
        assert!(tail.starts_with("line 120\n") && tail.ends_with("line 199"), "{tail}");
    }
}
