//! Manifests as they are named on a command line: files, directories, standard input.

use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use manifests::Source;

/// What a directory is searched for; it is not searched in depth.
const ENDINGS: [&str; 3] = ["yaml", "yml", "json"];

/// The manifests could not be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file, or standard input.
    #[error("read manifest {name}")]
    Read {
        /// The file.
        name: String,
        /// Why.
        source: io::Error,
    },
    /// A directory.
    #[error("list manifest directory {}", path.display())]
    List {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A directory without a manifest.
    #[error("directory {} holds no file that ends in .yaml, .yml or .json", .0.display())]
    Empty(PathBuf),
}

/// Reads every file, every manifest of every directory in the order of their names, and standard input for `-`.
pub fn load(paths: &[PathBuf]) -> Result<Vec<Source>, Error> {
    let mut sources = Vec::new();
    for path in paths {
        if path.as_os_str() == "-" {
            let mut bytes = Vec::new();
            let read = io::stdin().lock().read_to_end(&mut bytes).map(|_| bytes);
            sources.push(source("<stdin>".into(), read)?);
        } else if path.is_dir() {
            for file in files_in(path)? {
                sources.push(source(file.display().to_string(), std::fs::read(&file))?);
            }
        } else {
            sources.push(source(path.display().to_string(), std::fs::read(path))?);
        }
    }
    Ok(sources)
}

fn source(name: String, bytes: io::Result<Vec<u8>>) -> Result<Source, Error> {
    let text = bytes.and_then(|bytes| {
        String::from_utf8(bytes).map_err(|error| {
            let at = error.utf8_error().valid_up_to();
            io::Error::new(io::ErrorKind::InvalidData, format!("byte {at} is not UTF-8; save the file as UTF-8"))
        })
    });
    match text {
        Ok(text) => Ok(Source { name, text }),
        Err(source) => Err(Error::Read { name, source }),
    }
}

/// Whether a file of a directory is a manifest, by its name.
pub fn is_manifest(path: &Path) -> bool {
    let fits = path.extension().is_some_and(|ending| ENDINGS.iter().any(|it| ending == *it));
    // An editor's swap file or half-written copy is hidden.
    let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
    fits && !hidden
}

fn files_in(dir: &Path) -> Result<Vec<PathBuf>, Error> {
    let list = || -> io::Result<Vec<PathBuf>> {
        let mut files = Vec::new();
        for entry in std::fs::read_dir(dir)? {
            let path = entry?.path();
            if is_manifest(&path) && path.is_file() {
                files.push(path);
            }
        }
        files.sort();
        Ok(files)
    };
    let files = list().map_err(|source| Error::List { path: dir.to_owned(), source })?;
    if files.is_empty() { Err(Error::Empty(dir.to_owned())) } else { Ok(files) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_directory_gives_its_manifests_by_name() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["b.yaml", "a.json", "c.txt", ".d.yaml", "e.yml"] {
            std::fs::write(dir.path().join(name), name).unwrap();
        }
        std::fs::create_dir(dir.path().join("f.yaml")).unwrap();
        let texts: Vec<_> = load(&[dir.path().to_owned()]).unwrap().into_iter().map(|it| it.text).collect();
        assert_eq!(texts, ["a.json", "b.yaml", "e.yml"]);
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(load(&[dir.path().to_owned()]), Err(Error::Empty(_))));
        let missing = dir.path().join("x.yaml");
        let error = load(std::slice::from_ref(&missing)).err().unwrap();
        assert_eq!(error.to_string(), format!("read manifest {}", missing.display()));
        std::fs::write(&missing, b"a: \xff").unwrap();
        let error = anyhow::Error::new(load(&[missing]).err().unwrap());
        assert!(format!("{error:#}").contains("byte 3 is not UTF-8"), "{error:#}");
    }
}
