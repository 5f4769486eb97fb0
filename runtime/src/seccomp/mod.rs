//! Seccomp: a container's profile, compiled to the classic BPF program that its first process loads.
//!
//! A [`Profile`] is either the built-in one ([`Profile::runtime_default`]) or an OCI or Docker JSON file
//! ([`Profile::parse`]). [`compile`] makes a [`Program`]: one binary search over the syscall numbers for each
//! architecture, because the kernel walks the filter once for every syscall number when it is loaded.
//!
//! What a profile means, rule by rule:
//! 1. a rule whose arguments match decides, the first one in the profile's order;
//! 2. else the first rule of that syscall without arguments decides;
//! 3. else, when the default refuses, a syscall newer than every one the profile names gets ENOSYS, so that a libc
//!    falls back as it does on an old kernel;
//! 4. else the default decides.
//!
//! Several checks in one rule must all hold, unless two of them look at the same argument: then each stands for itself
//! (runc's reading, on which published profiles rely).

mod arch;
mod compile;
mod default;
mod json;
#[cfg(test)]
mod tests;

pub use arch::Arch;
pub use compile::{Instruction, MAX_INSTRUCTIONS, Program, compile};

use std::sync::{Arc, Mutex, PoisonError};

use crate::capabilities::CapSet;

/// What the kernel does with a syscall.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// End the whole process with SIGSYS.
    KillProcess,
    /// End the calling thread.
    KillThread,
    /// Send SIGSYS.
    Trap,
    /// Fail with this errno.
    Errno(u16),
    /// Tell a tracer, with this message.
    Trace(u16),
    /// Allow, and write it to the audit log.
    Log,
    /// Allow.
    Allow,
}

/// How an argument is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Compare {
    /// Not equal.
    Ne,
    /// Less than.
    Lt,
    /// Less than or equal.
    Le,
    /// Equal.
    Eq,
    /// Greater than or equal.
    Ge,
    /// Greater than.
    Gt,
    /// Equal after masking: `argument & mask == value`.
    MaskedEq {
        /// The bits that count.
        mask: u64,
    },
}

/// One comparison of one argument, unsigned. On a 32-bit architecture the low halves are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ArgCheck {
    /// 0 to 5.
    pub index: u8,
    /// What is compared with.
    pub value: u64,
    /// How.
    pub op: Compare,
}

/// An action for some syscalls, perhaps only with certain arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Syscall names; one that an architecture does not have is skipped there.
    pub names: Vec<String>,
    /// What happens.
    pub action: Action,
    /// When; empty is always.
    pub args: Vec<ArgCheck>,
}

/// A profile with every condition on capabilities, architecture and kernel already decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile {
    /// What happens to a syscall that no rule decides.
    pub default: Action,
    /// Architectures whose syscalls are filtered, the machine's own first; any other ends the process.
    pub arches: Vec<Arch>,
    /// In the order of the profile.
    pub rules: Vec<Rule>,
    /// `SECCOMP_FILTER_FLAG_*` to load it with.
    pub flags: u32,
}

/// Why a profile cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not JSON, or not of a profile's shape.
    #[error("read the seccomp profile: {0}")]
    Json(#[from] serde_json::Error),
    /// A value that means nothing here.
    #[error("seccomp profile: {path}: {what} {value:?} is not known; use one of {known}")]
    Value {
        /// Where in the file.
        path: String,
        /// What kind of value.
        what: &'static str,
        /// As it was written.
        value: String,
        /// What would be accepted.
        known: &'static str,
    },
    /// A value that is known and cannot be done here.
    #[error("seccomp profile: {path}: {why}")]
    Unsupported {
        /// Where in the file.
        path: String,
        /// Why, and what to do.
        why: String,
    },
    /// The kernel would not take it.
    #[error(
        "the seccomp profile compiles to {0} instructions and the kernel takes {MAX_INSTRUCTIONS}: shorten its rules"
    )]
    TooLarge(usize),
    /// Neither x86_64 nor aarch64.
    #[error("seccomp profiles are not supported on this machine's architecture ({0}): run the container Unconfined")]
    Machine(&'static str),
}

/// The compiled profile of `RuntimeDefault` for these capabilities. Nearly every container has the same set, so the last
/// few programs are kept.
pub fn default_program(caps: CapSet) -> Result<Arc<Program>, Error> {
    const KEPT: usize = 16;
    static PROGRAMS: Mutex<Vec<(CapSet, Arc<Program>)>> = Mutex::new(Vec::new());
    let programs = || PROGRAMS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, program)) = programs().iter().find(|(known, _)| *known == caps) {
        return Ok(Arc::clone(program));
    }
    let program = Arc::new(compile(&Profile::runtime_default(caps)?)?);
    let mut programs = programs();
    if programs.len() == KEPT {
        programs.remove(0);
    }
    programs.push((caps, Arc::clone(&program)));
    Ok(program)
}

impl Profile {
    /// The profile of `RuntimeDefault` on this machine for a container with these capabilities.
    pub fn runtime_default(caps: CapSet) -> Result<Profile, Error> {
        Ok(default::profile(Arch::native()?, caps))
    }

    /// Reads an OCI `linux.seccomp` object or a Docker profile (`archMap`, `includes`, `excludes`) for this machine and
    /// a container with these capabilities.
    pub fn parse(json: &str, caps: CapSet) -> Result<Profile, Error> {
        json::parse(json, &json::Context { native: Arch::native()?, caps, kernel: json::running_kernel() })
    }
}
