//! Applets that do one thing and end.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::Path;

use super::Failure;

/// Writes to standard output; that nobody reads any more is not a failure.
pub fn print(text: &[u8]) -> Result<u8, Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(text).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Failure::failed(error)),
        _ => Ok(0),
    }
}

/// `cat FILE…`
pub fn cat(files: &[OsString]) -> Result<u8, Failure> {
    if files.is_empty() {
        return Err(Failure::Usage("which files?".into()));
    }
    for path in files.iter().map(Path::new) {
        let copied = File::open(path).and_then(|mut file| io::copy(&mut file, &mut io::stdout().lock()));
        match copied {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(0),
            Err(error) => return Err(Failure::Failed(format!("{}: {error}", path.display()))),
            Ok(_) => {}
        }
    }
    print(b"")
}

/// `echo [WORD…]`
pub fn echo(words: &[OsString]) -> Result<u8, Failure> {
    print(&line(words))
}

/// `env`
pub fn env(args: &[OsString]) -> Result<u8, Failure> {
    if !args.is_empty() {
        return Err(Failure::Usage("takes no arguments".into()));
    }
    let mut text = Vec::new();
    for (name, value) in std::env::vars_os() {
        text.extend_from_slice(&[name.into_vec(), value.into_vec()].join(&b'='));
        text.push(b'\n');
    }
    print(&text)
}

/// `exit CODE`
pub fn exit(args: &[OsString]) -> Result<u8, Failure> {
    let code = match args {
        [code] => code.to_str().and_then(|code| code.parse().ok()),
        _ => None,
    };
    code.ok_or_else(|| Failure::Usage("needs a code from 0 to 255".into()))
}

/// `write FILE [WORD…]`
pub fn write(args: &[OsString]) -> Result<u8, Failure> {
    let (path, words) = args.split_first().ok_or_else(|| Failure::Usage("which file?".into()))?;
    let path = Path::new(path);
    std::fs::write(path, line(words)).map_err(|e| Failure::Failed(format!("{}: {e}", path.display())))?;
    Ok(0)
}

fn line(words: &[OsString]) -> Vec<u8> {
    let mut text = words.iter().map(|word| OsStr::as_bytes(word)).collect::<Vec<_>>().join(&b' ');
    text.push(b'\n');
    text
}
