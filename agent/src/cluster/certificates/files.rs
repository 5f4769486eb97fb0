//! Certificates on disk, as kubelet keeps them: each with its key in a file of its time, and a link to the current one.
//!
//! ```text
//! kubelet-client-current.pem -> kubelet-client-2026-11-23-15-04-05.pem
//! ```

use std::fs;
use std::os::unix::fs::{DirBuilderExt as _, symlink};
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::self_signed::write;
use super::{Error, Pair, Unusable, at};

/// The certificates of one purpose.
#[derive(Clone, Debug)]
pub struct Files {
    dir: PathBuf,
    prefix: &'static str,
}

impl Files {
    /// Those by which the API server knows the node.
    pub fn client(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), prefix: "kubelet-client" }
    }

    /// Those by which others know the node.
    pub fn server(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), prefix: "kubelet-server" }
    }

    /// Where the current one is, if there is one.
    pub fn current(&self) -> PathBuf {
        self.dir.join(format!("{}-current.pem", self.prefix))
    }

    /// The current one; none where there is none.
    pub fn read(&self) -> Result<Option<Pair>, Error> {
        let path = self.current();
        match Pair::read(&path, &path) {
            Ok(pair) => Ok(Some(pair)),
            Err(Error::File { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Keeps a new one, durably, as the current one.
    pub fn update(&self, certificate: &str, key: &str, now: Timestamp) -> Result<Pair, Error> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.dir).map_err(at("make", &self.dir))?;
        let name = format!("{}-{}.pem", self.prefix, now.strftime("%Y-%m-%d-%H-%M-%S"));
        let path = self.dir.join(&name);
        let unusable = |why: Unusable| Error::Unusable { path: path.clone(), why };
        let pair = Pair::of_pem(certificate.as_bytes(), key.as_bytes()).map_err(unusable)?;
        write(&path, &format!("{}\n{}", certificate.trim_end(), key))?;
        let (current, fresh) = (self.current(), self.dir.join(format!("{}-updated.pem", self.prefix)));
        match fs::remove_file(&fresh) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(at("remove", &fresh)(error)),
            _ => {}
        }
        symlink(&name, &fresh).map_err(at("link", &fresh))?;
        fs::rename(&fresh, &current).map_err(at("rename", &fresh))?;
        fs::File::open(&self.dir).and_then(|dir| dir.sync_all()).map_err(at("write", &self.dir))?;
        Ok(pair)
    }

    /// The key of a request that was not answered yet: the next attempt of this node, or of its next agent, goes on with it.
    pub fn pending_key(&self) -> Result<rcgen::KeyPair, Error> {
        let path = self.pending();
        if let Some(key) = fs::read_to_string(&path).ok().and_then(|text| rcgen::KeyPair::from_pem(&text).ok()) {
            return Ok(key);
        }
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.dir).map_err(at("make", &self.dir))?;
        let key = rcgen::KeyPair::generate()?;
        write(&path, &key.serialize_pem())?;
        Ok(key)
    }

    /// That request is over.
    pub fn forget_pending_key(&self) {
        let path = self.pending();
        match fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                tracing::warn!(path = %path.display(), %error, "the key of a request that is over stays");
            }
            _ => {}
        }
    }

    fn pending(&self) -> PathBuf {
        self.dir.join(format!("{}.key.tmp", self.prefix))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::self_signed;
    use super::*;

    #[test]
    fn the_newest_is_the_current_one() {
        let dir = tempfile::tempdir().unwrap();
        let files = Files::client(&dir.path().join("pki"));
        assert!(files.read().unwrap().is_none());
        let mut last = None;
        for time in ["2026-01-01T00:00:00Z", "2026-02-01T00:00:01Z"] {
            let now = time.parse().unwrap();
            let (certificate, key) = self_signed::make("here", &[], now).unwrap();
            last = Some(files.update(&certificate, &key, now).unwrap());
        }
        let read = files.read().unwrap().unwrap();
        assert_eq!(read.certified.cert, last.unwrap().certified.cert);
        let target = fs::read_link(files.current()).unwrap();
        assert_eq!(target, Path::new("kubelet-client-2026-02-01-00-00-01.pem"));
        assert!(dir.path().join("pki/kubelet-client-2026-01-01-00-00-00.pem").exists());
    }

    #[test]
    fn what_is_no_pair_does_not_take_the_place_of_one() {
        let dir = tempfile::tempdir().unwrap();
        let files = Files::client(dir.path());
        let make = || self_signed::make("here", &[], Timestamp::now()).unwrap();
        let ((certificate, _), (_, key)) = (make(), make());
        assert!(files.update(&certificate, &key, Timestamp::now()).is_err());
        assert!(files.read().unwrap().is_none());
        fs::write(files.current(), "nonsense").unwrap();
        assert!(files.read().is_err());
    }

    #[test]
    fn a_key_is_kept_until_its_request_is_over() {
        let dir = tempfile::tempdir().unwrap();
        let files = Files::client(dir.path());
        let key = files.pending_key().unwrap().serialize_pem();
        assert_eq!(files.pending_key().unwrap().serialize_pem(), key);
        files.forget_pending_key();
        assert_ne!(files.pending_key().unwrap().serialize_pem(), key);
    }
}
