//! WebSocket (RFC 6455): the codec, the numbered channels that Kubernetes puts into its messages, and a tunnel for
//! bytes.
//!
//! The codec is our own: what the well-kept crates offer works on a stream they read and write themselves, and hands
//! out whole messages, where this has to hand on each piece of a message as it arrives and stop when nobody takes it.

mod channels;
mod connection;
mod frame;
mod handshake;
mod tunnel;
mod utf8;

pub use channels::{Channels, Dialect};
pub use connection::{Connection, Event};
pub use frame::Opcode;
pub use handshake::{accept_key, new_key};
pub use tunnel::Tunnel;
