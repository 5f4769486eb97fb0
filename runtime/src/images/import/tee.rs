//! A layer's blob as it is read, written aside to be kept.

use std::fs::File;
use std::io::{self, Read, Write as _};

/// A reader that writes what passes through it.
pub(super) struct Tee<R> {
    pub inner: R,
    pub copy: File,
}

impl<R: Read> Read for Tee<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.copy.write_all(&buffer[..n])?;
        Ok(n)
    }
}
