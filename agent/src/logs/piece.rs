//! One file of a container's log.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;
use runtime::logs::{Kept, Stamp};

/// The directory of a log, and the name of the file that is being written.
#[derive(Clone, Debug)]
pub struct Place {
    dir: PathBuf,
    live: String,
}

impl Place {
    /// Where a live file is. One without a name has no log.
    pub fn of(path: &Path) -> Place {
        let live = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        Place { dir: path.parent().unwrap_or(Path::new("")).to_owned(), live }
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The files that were put aside, oldest first. None where the directory is not there yet.
    pub fn kept(&self) -> Vec<Kept> {
        /// Looks at most: files may come and go all the time.
        const LOOKS: usize = 20;
        // What gets another name while a directory is read may be seen under neither.
        let mut kept = self.look();
        for _ in 1..LOOKS {
            let again = self.look();
            if again == kept {
                break;
            }
            kept = again;
        }
        kept
    }

    fn look(&self) -> Vec<Kept> {
        use std::os::fd::AsFd as _;
        let Ok(dir) = File::open(&self.dir).map(OwnedFd::from) else { return Vec::new() };
        runtime::logs::kept(dir.as_fd(), &self.live).unwrap_or_default()
    }

    /// Opens a file that was put aside, in either form; none that has been removed.
    pub fn open(&self, stamp: &Stamp) -> io::Result<Option<Piece>> {
        let plain = found(File::open(self.dir.join(stamp.name(&self.live))))?;
        if let Some(file) = plain {
            return Ok(Some(Piece::Plain(file)));
        }
        let packed = found(File::open(self.dir.join(stamp.compressed_name(&self.live))))?;
        Ok(packed.map(|file| Piece::Packed(Box::new(GzDecoder::new(file)))))
    }

    /// Opens the file that is being written.
    pub fn open_live(&self) -> io::Result<Option<Piece>> {
        Ok(found(File::open(self.dir.join(&self.live)))?.map(Piece::Plain))
    }
}

fn found(opened: io::Result<File>) -> io::Result<Option<File>> {
    match opened {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        other => other.map(Some),
    }
}

/// An open file of a log.
#[derive(Debug)]
pub enum Piece {
    /// As it was written.
    Plain(File),
    /// Compressed.
    Packed(Box<GzDecoder<File>>),
}

impl Piece {
    fn file(&self) -> &File {
        match self {
            Piece::Plain(file) => file,
            Piece::Packed(decoder) => decoder.get_ref(),
        }
    }

    /// Whether this is the file being written.
    pub fn is_live(&self, place: &Place) -> bool {
        let there = std::fs::metadata(place.dir.join(&place.live)).ok();
        let open = self.file().metadata().ok();
        there.zip(open).is_some_and(|(there, open)| (there.dev(), there.ino()) == (open.dev(), open.ino()))
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.file().metadata().is_ok_and(|metadata| metadata.len() == 0)
    }

    /// When it was put aside. The kernel knows what an open file is called by now, even one that is removed.
    pub fn stamp(&self, place: &Place) -> Option<Stamp> {
        let link = std::fs::read_link(format!("/proc/self/fd/{}", self.file().as_raw_fd())).ok()?;
        let name = link.file_name()?.to_str()?;
        let name = name.strip_suffix(" (deleted)").unwrap_or(name);
        Stamp::of(&place.live, name).map(|(stamp, _)| stamp)
    }

    /// Goes to where its last `count` lines begin. Answers how many lines it lacks.
    pub fn seek_tail(&mut self, count: u64) -> io::Result<u64> {
        match self {
            Piece::Plain(file) => {
                let (offset, lines) = tail_offset(file, count)?;
                file.seek(SeekFrom::Start(offset))?;
                Ok(count - lines)
            }
            Piece::Packed(decoder) => {
                let lines = count_lines(&mut BufReader::new(&mut **decoder))?;
                let file = decoder.get_mut();
                file.rewind()?;
                **decoder = GzDecoder::new(file.try_clone()?);
                skip_lines(decoder, lines.saturating_sub(count))?;
                Ok(count.saturating_sub(lines))
            }
        }
    }
}

impl Read for Piece {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Piece::Plain(file) => file.read(buffer),
            Piece::Packed(decoder) => decoder.read(buffer),
        }
    }
}

fn count_lines(reader: &mut impl BufRead) -> io::Result<u64> {
    let mut lines = 0;
    loop {
        let bytes = reader.fill_buf()?;
        if bytes.is_empty() {
            return Ok(lines);
        }
        lines += bytes.iter().filter(|&&byte| byte == b'\n').count() as u64;
        let length = bytes.len();
        reader.consume(length);
    }
}

/// Byte by byte, for what is read must not go beyond the last of them: seldom done, and the decoder has a buffer.
fn skip_lines(reader: &mut impl Read, mut lines: u64) -> io::Result<()> {
    let mut byte = [0];
    while lines > 0 && reader.read(&mut byte)? > 0 {
        lines -= u64::from(byte == [b'\n']);
    }
    Ok(())
}

/// The offset at which the last `count` lines of a file begin, and how many they are if it has fewer.
fn tail_offset(file: &mut File, count: u64) -> io::Result<(u64, u64)> {
    const CHUNK: u64 = 64 * 1024;
    let mut end = file.seek(SeekFrom::End(0))?;
    if count == 0 {
        return Ok((end, 0));
    }
    let mut seen = 0;
    let mut buffer = Vec::new();
    while end > 0 {
        let start = end.saturating_sub(CHUNK);
        file.seek(SeekFrom::Start(start))?;
        buffer.clear();
        file.by_ref().take(end - start).read_to_end(&mut buffer)?;
        for (at, byte) in buffer.iter().enumerate().rev() {
            if *byte == b'\n' {
                seen += 1;
                // The last line's own newline is one too many.
                if seen == count + 1 {
                    return Ok((start + at as u64 + 1, count));
                }
            }
        }
        end = start;
    }
    Ok((0, seen.min(count)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::io::Write as _;

    #[test]
    fn the_tail_is_found_from_the_end() {
        let mut file = tempfile::tempfile().unwrap();
        for number in 0..10_000 {
            writeln!(file, "2026-11-22T18:31:45Z stdout F line {number}").unwrap();
        }
        for (count, first, lacking) in [(1, "9999", 0), (3, "9997", 0), (5000, "5000", 0), (20_000, "0", 10_000)] {
            let mut piece = Piece::Plain(file.try_clone().unwrap());
            assert_eq!(piece.seek_tail(count).unwrap(), lacking);
            let mut text = String::new();
            piece.read_to_string(&mut text).unwrap();
            assert!(text.lines().next().unwrap().ends_with(&format!("line {first}")), "{count}");
        }
        assert_eq!(tail_offset(&mut file, 0).unwrap(), (file.metadata().unwrap().len(), 0));
    }
}
