//! SPDY/3.1, as far as Kubernetes speaks it: the frames of draft 3 with headers packed by one zlib stream a direction.
//!
//! **No flow control.** Draft 3.1 gives each stream and the connection a window of 64 KiB that `WINDOW_UPDATE` widens.
//! Go's spdystream, which kubelets, kubectl, crictl and containerd are built on, neither sends that frame, nor heeds
//! it, nor counts: who keeps to the windows stands still after 64 KiB. So this end does as it does: the frame is read
//! and forgotten (`SETTINGS`, which could set the window, too), and a reader that falls behind holds the connection
//! back by not reading it.
//!
//! Other habits of spdystream that this respects: data that arrives before the `SYN_REPLY` of its stream is dropped,
//! so the reply goes out first; a `HEADERS` frame blocks its receiver for ever, so none is sent; its server ends streams
//! with `RST_STREAM` and the status `CANCEL`, so that is an end like another.

mod connection;
mod dictionary;
mod frame;
mod headers;

pub use connection::Connection;
