//! Streams of exec, attach and port-forward over one connection: the codecs of SPDY/3.1 and of WebSocket, and the
//! protocols of Kubernetes on top of them, for both ends.
//!
//! ```text
//! remotecommand, portforward      what Kubernetes makes of the streams: server and client
//!   channels                      Receiver and Sender: one direction of one stream, tokio's AsyncRead and AsyncWrite
//!     driver                      one task a connection: moves bytes, bounds what waits, wakes whoever waits
//!       spdy, websocket           the codecs: bytes in, events out; no I/O, no clock
//! ```
//!
//! The HTTP request that asks for the upgrade is somebody else's: this begins with the connection that follows it, of
//! whatever kind.

pub mod channels;
pub mod codec;
mod connect;
pub(crate) mod drain;
mod driver;
pub(crate) mod fd;
#[doc(hidden)]
pub mod fuzz;
mod handles;
mod http;
pub mod portforward;
pub mod remotecommand;
mod serve;
mod server;
mod slot;
pub mod spdy;
mod state;
mod tls;
pub mod websocket;

pub(crate) use http::{State, join};
pub use server::{Options, Server};
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
