//! Port forwarding: a pair of streams for every connection to a port, one for its bytes, one for what went wrong.

mod client;
mod protocol;
mod server;

pub use client::{Client, Forwarded};
pub use protocol::{Protocol, parse_ports};
pub use server::{Failure, Forward, Server};
