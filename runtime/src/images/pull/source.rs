//! A file that grows while it is read: the download writes, the unpacker reads behind it and waits where the file ends.
//! Neither holds the other up, memory does not grow, and bytes that an earlier attempt brought are read like any others.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt as _;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

/// What both ends know.
struct Shared {
    file: File,
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    length: u64,
    end: End,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Growing,
    Whole,
    /// Nothing more comes.
    Broken,
}

/// The writing end. When it is dropped before [`finish`](Writer::finish) readers see an error.
pub(super) struct Writer(Arc<Shared>);

/// The reading end.
pub(super) struct Reader {
    shared: Arc<Shared>,
    at: u64,
}

/// Both ends of a file that has `length` bytes already.
pub(super) fn growing(file: File, length: u64) -> (Writer, Reader) {
    let state = Mutex::new(State { length, end: End::Growing });
    let shared = Arc::new(Shared { file, state, changed: Condvar::new() });
    (Writer(Arc::clone(&shared)), Reader { shared, at: 0 })
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics with the lock held; if something did, the numbers are still whole.
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn end(&self, end: End) {
        let mut state = self.state();
        if state.end == End::Growing {
            state.end = end;
        }
        self.changed.notify_all();
    }
}

impl Writer {
    pub fn length(&self) -> u64 {
        self.0.state().length
    }

    pub fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let at = self.length();
        self.0.file.write_all_at(bytes, at)?;
        self.0.state().length = at + bytes.len() as u64;
        self.0.changed.notify_all();
        Ok(())
    }

    /// All bytes are there.
    pub fn finish(self) {
        self.0.end(End::Whole);
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.0.end(End::Broken);
    }
}

impl Read for Reader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut state = self.shared.state();
        while state.length == self.at {
            match state.end {
                End::Growing => {
                    let woken = self.shared.changed.wait(state);
                    state = woken.unwrap_or_else(|poisoned| poisoned.into_inner());
                }
                End::Whole => return Ok(0),
                End::Broken => return Err(io::Error::new(io::ErrorKind::ConnectionAborted, "the download has ended")),
            }
        }
        let available = state.length - self.at;
        drop(state);
        let limit = available.min(buffer.len() as u64) as usize;
        let n = self.shared.file.read_at(&mut buffer[..limit], self.at)?;
        self.at += n as u64;
        Ok(n)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_waits_for_what_is_written_and_sees_the_end() {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(b"old ", 0).unwrap();
        let (mut writer, mut reader) = growing(file, 4);
        let read = std::thread::spawn(move || {
            let mut text = String::new();
            reader.read_to_string(&mut text).map(|_| text)
        });
        writer.append(b"and ").unwrap();
        std::thread::sleep(std::time::Duration::from_millis(20));
        writer.append(b"new").unwrap();
        assert_eq!(writer.length(), 11);
        writer.finish();
        assert_eq!(read.join().unwrap().unwrap(), "old and new");
    }

    #[test]
    fn a_download_that_is_given_up_is_an_error_and_not_an_end() {
        let (mut writer, mut reader) = growing(tempfile::tempfile().unwrap(), 0);
        writer.append(b"half").unwrap();
        drop(writer);
        let mut text = String::new();
        assert_eq!(reader.read_to_string(&mut text).unwrap_err().kind(), io::ErrorKind::ConnectionAborted);
        assert_eq!(text, "half");
    }
}
