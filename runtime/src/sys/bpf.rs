//! bpf(2) for the device programs of cgroup v2.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// One eBPF instruction, laid out as the kernel's `struct bpf_insn`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Insn {
    /// Operation.
    pub code: u8,
    /// Destination register in the low nibble, source in the high one.
    pub regs: u8,
    /// Jump distance or memory offset.
    pub off: i16,
    /// Immediate operand.
    pub imm: i32,
}

/// `union bpf_attr`, larger than any kernel's use of it here: what is not named stays zero, as bpf(2) demands.
#[repr(C, align(8))]
struct Attr([u8; 128]);

impl Attr {
    fn new() -> Attr {
        Attr([0; 128])
    }

    fn put(mut self, offset: usize, bytes: &[u8]) -> Attr {
        self.0[offset..offset + bytes.len()].copy_from_slice(bytes);
        self
    }

    fn u32(self, offset: usize, value: u32) -> Attr {
        self.put(offset, &value.to_ne_bytes())
    }

    fn u64(self, offset: usize, value: u64) -> Attr {
        self.put(offset, &value.to_ne_bytes())
    }

    fn call(&mut self, command: libc::c_int) -> io::Result<i32> {
        // SAFETY: the attributes are 128 initialised bytes that outlive the call, and their size is passed; the buffers
        // they point to are kept alive by the callers below.
        let result = unsafe { libc::syscall(libc::SYS_bpf, command, self.0.as_mut_ptr(), self.0.len()) };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as i32) }
    }
}

const BPF_PROG_LOAD: libc::c_int = 5;
const BPF_PROG_ATTACH: libc::c_int = 8;
const BPF_PROG_DETACH: libc::c_int = 9;
const BPF_PROG_GET_FD_BY_ID: libc::c_int = 13;
const BPF_PROG_QUERY: libc::c_int = 16;
const BPF_PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const BPF_CGROUP_DEVICE: u32 = 6;
const BPF_F_ALLOW_MULTI: u32 = 2;

/// Loads a device program.
pub fn load_device_program(instructions: &[Insn]) -> io::Result<OwnedFd> {
    let license = c"Apache-2.0";
    let count = u32::try_from(instructions.len()).map_err(|_| io::Error::from_raw_os_error(libc::E2BIG))?;
    let fd = Attr::new()
        .u32(0, BPF_PROG_TYPE_CGROUP_DEVICE)
        .u32(4, count)
        .u64(8, instructions.as_ptr() as u64)
        .u64(16, license.as_ptr() as u64)
        .put(48, b"coracle_devices")
        .call(BPF_PROG_LOAD)?;
    // SAFETY: a successful BPF_PROG_LOAD returns a new descriptor (close-on-exec) that nothing else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Attaches a device program to a cgroup, beside those of its ancestors; each must allow an access.
pub fn attach_device_program(cgroup: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    device_attr(cgroup).u32(4, program.as_raw_fd() as u32).u32(12, BPF_F_ALLOW_MULTI).call(BPF_PROG_ATTACH).map(drop)
}

/// Takes a device program off a cgroup.
pub fn detach_device_program(cgroup: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    device_attr(cgroup).u32(4, program.as_raw_fd() as u32).call(BPF_PROG_DETACH).map(drop)
}

/// The device programs attached to this very cgroup, at most 64.
pub fn device_programs(cgroup: BorrowedFd<'_>) -> io::Result<Vec<OwnedFd>> {
    let mut ids = [0u32; 64];
    let mut attr = Attr::new()
        .u32(0, cgroup.as_raw_fd() as u32)
        .u32(4, BPF_CGROUP_DEVICE)
        .u64(16, ids.as_mut_ptr() as u64)
        .u32(24, ids.len() as u32);
    attr.call(BPF_PROG_QUERY)?;
    let mut count = [0; 4];
    count.copy_from_slice(&attr.0[24..28]);
    let ids = ids.iter().take(u32::from_ne_bytes(count) as usize);
    ids.map(|id| {
        let fd = Attr::new().u32(0, *id).call(BPF_PROG_GET_FD_BY_ID)?;
        // SAFETY: a successful BPF_PROG_GET_FD_BY_ID returns a new descriptor that nothing else owns.
        Ok(unsafe { OwnedFd::from_raw_fd(fd) })
    })
    .collect()
}

fn device_attr(cgroup: BorrowedFd<'_>) -> Attr {
    Attr::new().u32(0, cgroup.as_raw_fd() as u32).u32(8, BPF_CGROUP_DEVICE)
}
