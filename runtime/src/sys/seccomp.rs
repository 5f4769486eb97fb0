//! Loading a seccomp filter.
#![allow(unsafe_code)]

use std::io;

use crate::seccomp::Program;

/// Loads a filter for the calling thread (seccomp(2)). Needs no_new_privs or CAP_SYS_ADMIN.
pub fn load(program: &Program) -> io::Result<()> {
    let instructions = &program.instructions;
    let length = u16::try_from(instructions.len()).map_err(|_| io::Error::other("the seccomp filter is too long"))?;
    let filter = libc::sock_fprog { len: length, filter: instructions.as_ptr().cast_mut().cast() };
    // SAFETY: an Instruction is laid out as a sock_filter; the kernel copies and verifies the array before the call
    // returns, and does not write to it.
    let result =
        unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, program.flags, &raw const filter) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
