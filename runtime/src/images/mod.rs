//! Container images: references, a content-addressed store, import of archives, confined unpacking of layers.
//!
//! ```text
//! <root>/images/lock              held for every change, for milliseconds, and let go by its holder's death
//!               references.json   reference -> image id, and the generation
//!               images/HEX.json   one record an image, named by its id (the configuration's digest)
//!               blobs/sha256/HEX  configurations, manifests, and layers as they came
//!               blobs/partial/HEX layers that are not whole yet, each locked by who brings it
//!               use.lock          shared by who begins to use an image, exclusive for who removes one
//!               layers/NAME.json  one record an unpacked layer
//!               l/NAME/           its files; twelve digits, so that 127 fit one page of mount options
//!               tmp/RANDOM/       work in progress, locked by who works in it
//!               quarantine/       records that could not be read
//! ```
//! A thing is durable before the thing that names it: content, then layer record, image record, references. So whatever
//! moment a process dies, what is named is whole, and what is not named is removed by the next `open`.

mod builtin;
mod commit;
mod decompress;
mod digest;
mod durable;
mod error;
mod export;
mod hold;
mod import;
mod layers;
mod pax;
mod pipeline;
mod platform;
mod pull;
mod record;
mod reference;
mod registry;
mod remove;
mod resolve;
mod section;
mod space;
mod store;
mod sweep;
mod tarstream;
mod temporary;
mod unpack;

pub use builtin::BUILTIN_REFERENCE;
pub use digest::Digest;
pub use error::{Error, Kind};
pub use export::Format;
pub use hold::Hold;
pub use import::{Imported, Progress};
pub use pull::{Event as PullEvent, LayerState, Phase, PullRequest, Puller, Subscription};
pub use record::ImageConfig;
pub use reference::Reference;
pub use registry::{RegistryAuth, RegistryOptions, Timeouts, host_tls};
pub use resolve::Image;
pub use store::{ImageStore, Usage};
pub use sweep::Findings;
pub use unpack::Problem;

/// What one image may ask of the host.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Limits {
    /// Entries in one layer (`--max-entries`).
    pub max_entries: u64,
    /// Unpacked bytes of one layer (`--max-bytes`).
    pub max_bytes: u64,
    /// Bytes in one path (`--max-path-bytes`).
    pub max_path_bytes: u64,
    /// Layers of one image: as many as overlay mounts in one page of options.
    pub max_layers: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { max_entries: 1_000_000, max_bytes: 32 << 30, max_path_bytes: 4096, max_layers: 127 }
    }
}

#[cfg(test)]
mod tests;
