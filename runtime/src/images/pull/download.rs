//! Bringing a blob's bytes, through whatever the network does.

use std::path::Path;

use super::patience::Patience;
use super::progress::{Phase, Reporter};
use super::source::Writer;
use crate::images::registry::{Failure, Opened, Registry, Trouble};
use crate::images::{Digest, Error};

/// A blob to bring.
pub(super) struct Download<'a> {
    pub registry: &'a Registry,
    pub reporter: &'a Reporter,
    pub digest: &'a Digest,
    pub size: u64,
    /// Of the layer in its image.
    pub position: usize,
    /// The partial, for messages.
    pub path: &'a Path,
}

/// Why a download ended without the blob.
pub(super) enum Stopped {
    Error(Error),
    /// What is there, or what the host has, cannot be the blob: the host, and what is wrong.
    Wrong {
        endpoint: Option<usize>,
        error: Error,
    },
}

impl From<Error> for Stopped {
    fn from(error: Error) -> Stopped {
        Stopped::Error(error)
    }
}

/// Why one answer ended early.
enum Cut {
    Trouble(Trouble),
    Stopped(Stopped),
}

impl Download<'_> {
    /// Brings what is missing. Gives which host sent the last of it, if anything was to be sent.
    pub async fn run(&self, mut writer: Writer) -> Result<Option<usize>, Stopped> {
        let what = format!("layer {}", self.digest);
        let mut patience = Patience::new(&self.registry.timeouts);
        let mut endpoint = None;
        while writer.length() < self.size {
            let before = writer.length();
            let failure = match self.registry.blob(self.digest, before).await {
                Ok(mut opened) => {
                    endpoint = Some(opened.endpoint());
                    let host = self.registry.host_of(&opened).to_owned();
                    match self.stream(&mut opened, &mut writer).await {
                        Ok(()) => continue,
                        Err(Cut::Stopped(stopped)) => return Err(stopped),
                        Err(Cut::Trouble(trouble)) => Failure::one(&host, trouble),
                    }
                }
                Err(failure) if before > 0 && failure.is_range() => {
                    let error = self.registry.error(what, failure);
                    return Err(Stopped::Wrong { endpoint: None, error });
                }
                Err(failure) => failure,
            };
            if writer.length() > before {
                patience.renew();
            }
            let waited = patience.wait(failure, &what, self.reporter).await;
            waited.map_err(|failure| self.registry.error(what.clone(), failure))?;
        }
        writer.finish();
        self.reporter.layer(self.position, |layer| {
            layer.bytes = self.size;
            if layer.phase != Phase::Done {
                layer.phase = Phase::Unpacking;
            }
        });
        Ok(endpoint)
    }

    /// Writes what comes until the blob is whole.
    async fn stream(&self, opened: &mut Opened, writer: &mut Writer) -> Result<(), Cut> {
        let wrong = |endpoint: usize, actual: u64| {
            let what = format!("layer {}", self.digest);
            Cut::Stopped(Stopped::Wrong {
                endpoint: Some(endpoint),
                error: Error::Size { what, expected: self.size, actual },
            })
        };
        if let Some(total) = opened.total.filter(|total| *total != self.size) {
            return Err(wrong(opened.endpoint(), total));
        }
        // A host that knows no ranges begins anew: what is here is passed over.
        let mut skip = writer.length() - opened.start;
        loop {
            let chunk = opened.next(self.registry.timeouts.stall).await.map_err(Cut::Trouble)?;
            let Some(chunk) = chunk else {
                let why = format!("the connection ended after {} of {} bytes", writer.length(), self.size);
                return Err(Cut::Trouble(Trouble::Connection(why)));
            };
            let chunk = chunk.as_ref();
            let passed = skip.min(chunk.len() as u64);
            skip -= passed;
            let new = &chunk[passed as usize..];
            if writer.length() + new.len() as u64 > self.size {
                return Err(wrong(opened.endpoint(), writer.length() + new.len() as u64));
            }
            writer.append(new).map_err(|e| Cut::Stopped(Error::io("write", self.path, e).into()))?;
            let bytes = writer.length();
            self.reporter.layer(self.position, |layer| layer.bytes = bytes);
            if bytes == self.size {
                return Ok(());
            }
        }
    }
}
