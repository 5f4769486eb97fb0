//! Tests of the store as a whole, on the real filesystem, as root.
#![allow(clippy::unwrap_used)]

mod archives;
mod attacks;
mod attributes;
mod builtin;
mod craft;
mod damage;
mod faults;
mod killed;
mod properties;
mod pull;
mod references;
mod sharing;
mod streams;
mod whiteouts;
