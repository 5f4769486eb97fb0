//! An archive in the `newc` form of cpio, which the kernel unpacks into its first root (initramfs).

/// The archive so far. Directories have to come before what is in them.
#[derive(Default)]
pub struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

const DIRECTORY: u32 = 0o040_000;
const FILE: u32 = 0o100_000;
const SYMLINK: u32 = 0o120_000;
const CHARACTER: u32 = 0o020_000;

impl Archive {
    /// A directory.
    pub fn directory(&mut self, name: &str) -> &mut Self {
        self.entry(name, DIRECTORY | 0o755, (0, 0), b"")
    }

    /// A file that may be executed.
    pub fn program(&mut self, name: &str, data: &[u8]) -> &mut Self {
        self.entry(name, FILE | 0o755, (0, 0), data)
    }

    /// A symbolic link.
    pub fn symlink(&mut self, name: &str, target: &str) -> &mut Self {
        self.entry(name, SYMLINK | 0o777, (0, 0), target.as_bytes())
    }

    /// A character device.
    pub fn device(&mut self, name: &str, major: u32, minor: u32) -> &mut Self {
        self.entry(name, CHARACTER | 0o600, (major, minor), b"")
    }

    /// The whole archive.
    pub fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, (0, 0), b"");
        self.bytes
    }

    /// A header of thirteen numbers, eight hexadecimal digits each, the name, the data; both padded to four bytes.
    fn entry(&mut self, name: &str, mode: u32, device: (u32, u32), data: &[u8]) -> &mut Self {
        self.entries += 1;
        let size = u32::try_from(data.len()).expect("no file of an initramfs has 4 GiB");
        let name_size = name.len() as u32 + 1;
        let numbers = [self.entries, mode, 0, 0, 1, 0, size, 0, 0, device.0, device.1, name_size, 0]
            .map(|it| format!("{it:08x}"));
        self.bytes.extend_from_slice(b"070701");
        self.bytes.extend_from_slice(numbers.concat().as_bytes());
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(data);
        self.pad();
        self
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::Archive;

    #[test]
    fn headers_and_data_are_aligned_and_the_end_is_marked() {
        let mut archive = Archive::default();
        archive.directory("d").program("d/f", b"12345").symlink("l", "d/f").device("c", 5, 1);
        let bytes = archive.finish();
        let mut rest = bytes.as_slice();
        let mut names = Vec::new();
        while !rest.is_empty() {
            let number = |at: usize| {
                let text = std::str::from_utf8(&rest[6 + at * 8..14 + at * 8]).expect("ASCII");
                usize::from_str_radix(text, 16).expect("a number")
            };
            let (size, name) = (number(6), number(11));
            assert_eq!(&rest[..6], b"070701");
            names.push(String::from_utf8_lossy(&rest[110..110 + name - 1]).into_owned());
            let data = (110 + name).next_multiple_of(4);
            if names.last().is_some_and(|name| name == "d/f") {
                assert_eq!(&rest[data..data + size], b"12345");
            }
            rest = &rest[(data + size).next_multiple_of(4)..];
        }
        assert_eq!(names, ["d", "d/f", "l", "c", "TRAILER!!!"]);
    }
}
