//! The system calls that no library wraps safely: the one place of this crate where `unsafe` is allowed.
//!
//! Everything here either has a safe signature whose body states why it is sound, or says in its name that it forks.

pub mod bpf;
pub mod fdpass;
pub mod memory;
pub mod mount;
pub mod net;
pub mod polled;
pub mod probe;
pub mod process;
pub mod seccomp;
