//! The kernel's word that processes wait for memory (PSI): pressure is seen when it begins, not at the next look. Where
//! the kernel does not tell, the looks by the clock are what there is.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use runtime::Polled;
use rustix::fs::{Mode, OFlags};
use tokio::io::Interest;

/// For a tenth of a second in one, some process could not go on for want of memory.
const TRIGGER: &[u8] = b"some 100000 1000000\0";

/// The least between two words of the kernel that are heard: a look takes time, too.
const REST: Duration = Duration::from_secs(1);

/// Where the kernel tells.
#[derive(Debug)]
pub struct Stalls(Option<Polled>);

impl Stalls {
    /// Asks the kernel to tell, from now on.
    pub fn open(proc_root: &Path) -> Self {
        let path = proc_root.join("pressure/memory");
        let open = || -> std::io::Result<Polled> {
            let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC;
            let mut file = File::from(rustix::fs::open(&path, flags, Mode::empty())?);
            file.write_all(TRIGGER)?;
            runtime::polled(file.into(), Interest::PRIORITY)
        };
        let opened = open().inspect_err(|error| {
            tracing::debug!(path = %path.display(), %error, "the kernel does not tell of memory pressure: it is looked for");
        });
        Stalls(opened.ok())
    }

    /// Until the kernel tells; for ever where it does not.
    pub async fn next(&mut self) {
        let Some(stalls) = &self.0 else { return std::future::pending().await };
        tokio::time::sleep(REST).await;
        match stalls.ready(Interest::PRIORITY).await {
            Ok(mut ready) => ready.clear_ready(),
            Err(error) => {
                tracing::debug!(%error, "the kernel does not tell of memory pressure any more");
                self.0 = None;
                std::future::pending().await
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn without_a_kernel_that_tells_nothing_is_told() {
        let mut stalls = Stalls::open(Path::new("/nowhere"));
        assert!(tokio::time::timeout(Duration::from_secs(3600), stalls.next()).await.is_err());
    }
}
