//! Pulling images: from a name to an image of the store.
//!
//! ```text
//! flight      one thread for each image that is being pulled, whoever asks for it; it ends when nobody does
//!   plan      name -> index -> manifest -> configuration: which layers it takes
//!   bring     layers that are missing, each: download ->  blobs/partial/HEX  -> unpack, behind the download
//!   commit    all of it becomes part of the store at once
//! ```
//! A partial blob is locked by who brings it, so bytes come once; what is there when its process dies, the next pull
//! goes on from. Nothing is believed before its digest is: the blob's own, and that of the tar inside.

mod bring;
mod download;
mod flight;
mod partial;
mod patience;
mod plan;
mod progress;
mod source;

pub use flight::{PullRequest, Puller, Subscription};
pub use progress::{Event, LayerState, Phase};
