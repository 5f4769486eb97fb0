//! A part of a file as a reader of its own: its position is its own too, so parts of one file are read side by side.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;

/// `length` bytes of a file from an offset.
#[derive(Debug)]
pub(super) struct Section {
    file: File,
    offset: u64,
    left: u64,
}

impl Section {
    pub(super) fn new(file: File, offset: u64, length: u64) -> Section {
        Section { file, offset, left: length }
    }
}

impl Read for Section {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let limit = self.left.min(buffer.len() as u64) as usize;
        let n = self.file.read_at(&mut buffer[..limit], self.offset)?;
        self.offset += n as u64;
        self.left -= n as u64;
        Ok(n)
    }
}
