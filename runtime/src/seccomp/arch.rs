//! Architectures and their syscall tables.

use std::collections::HashMap;
use std::str::FromStr;
use std::sync::LazyLock;

use super::Error;

/// The bit that marks an x32 syscall number.
pub(super) const X32_BIT: u32 = 0x4000_0000;

/// A syscall interface that a filter can meet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Arch {
    /// 64-bit x86.
    X86_64,
    /// 32-bit x86.
    X86,
    /// The 64-bit instruction set with 32-bit pointers; it shares x86_64's audit number.
    X32,
    /// 64-bit Arm.
    Aarch64,
    /// 32-bit Arm.
    Arm,
}

type Table = HashMap<&'static str, u32>;

static X86_64: LazyLock<Table> =
    LazyLock::new(|| table(syscalls::x86_64::Sysno::last().id(), |id| Some(syscalls::x86_64::Sysno::new(id)?.name())));
static X86: LazyLock<Table> =
    LazyLock::new(|| table(syscalls::x86::Sysno::last().id(), |id| Some(syscalls::x86::Sysno::new(id)?.name())));
static AARCH64: LazyLock<Table> = LazyLock::new(|| {
    table(syscalls::aarch64::Sysno::last().id(), |id| Some(syscalls::aarch64::Sysno::new(id)?.name()))
});
static ARM: LazyLock<Table> = LazyLock::new(|| {
    let mut arm = table(syscalls::arm::Sysno::last().id(), |id| Some(syscalls::arm::Sysno::new(id)?.name()));
    arm.extend(ARM_PRIVATE);
    arm
});
static X32: LazyLock<Table> = LazyLock::new(|| {
    let common = X86_64.iter().map(|(name, number)| (*name, number | X32_BIT));
    let own = (512..).zip(X32_OWN).map(|(number, name)| (*name, number | X32_BIT));
    // The second entry of a name wins: where x32 has a number of its own, the shared one does not exist.
    common.chain(own).collect()
});

/// Syscalls outside Arm's table (`__ARM_NR_*`), and second names of what is in it.
const ARM_PRIVATE: [(&str, u32); 6] = [
    ("breakpoint", 0xf_0001),
    ("cacheflush", 0xf_0002),
    ("usr26", 0xf_0003),
    ("usr32", 0xf_0004),
    ("set_tls", 0xf_0005),
    ("sync_file_range2", 341),
];

/// The syscalls whose x32 number differs from x86_64's, from 512 on.
#[rustfmt::skip]
const X32_OWN: &[&str] = &[
    "rt_sigaction", "rt_sigreturn", "ioctl", "readv", "writev", "recvfrom", "sendmsg", "recvmsg", "execve", "ptrace",
    "rt_sigpending", "rt_sigtimedwait", "rt_sigqueueinfo", "sigaltstack", "timer_create", "mq_notify", "kexec_load",
    "waitid", "set_robust_list", "get_robust_list", "vmsplice", "move_pages", "preadv", "pwritev",
    "rt_tgsigqueueinfo", "recvmmsg", "sendmmsg", "process_vm_readv", "process_vm_writev", "setsockopt", "getsockopt",
    "io_setup", "io_submit", "execveat", "preadv2", "pwritev2",
];

fn table(last: i32, name: impl Fn(usize) -> Option<&'static str>) -> Table {
    (0..=last as u32).filter_map(|id| Some((name(id as usize)?, id))).collect()
}

impl Arch {
    /// The machine's own.
    pub fn native() -> Result<Arch, Error> {
        match std::env::consts::ARCH {
            "x86_64" => Ok(Arch::X86_64),
            "aarch64" => Ok(Arch::Aarch64),
            other => Err(Error::Machine(other)),
        }
    }

    /// `AUDIT_ARCH_*`, as the filter sees it.
    pub fn audit(self) -> u32 {
        match self {
            Arch::X86_64 | Arch::X32 => 0xc000_003e,
            Arch::X86 => 0x4000_0003,
            Arch::Aarch64 => 0xc000_00b7,
            Arch::Arm => 0x4000_0028,
        }
    }

    /// Whether arguments have 64 bits.
    pub fn is_64_bit(self) -> bool {
        matches!(self, Arch::X86_64 | Arch::X32 | Arch::Aarch64)
    }

    /// The number of a syscall, as the filter sees it; none if this architecture has no such call.
    pub fn number(self, name: &str) -> Option<u32> {
        let table = match self {
            Arch::X86_64 => &X86_64,
            Arch::X86 => &X86,
            Arch::X32 => &X32,
            Arch::Aarch64 => &AARCH64,
            Arch::Arm => &ARM,
        };
        table.get(name).copied()
    }

    /// The other interfaces that a machine of this architecture offers its programs.
    pub(super) fn companions(self) -> &'static [Arch] {
        match self {
            Arch::X86_64 => &[Arch::X86, Arch::X32],
            Arch::Aarch64 => &[Arch::Arm],
            Arch::X86 | Arch::X32 | Arch::Arm => &[],
        }
    }

    /// The name Go and Docker's profiles give it.
    pub(super) fn go_name(self) -> &'static str {
        match self {
            Arch::X86_64 => "amd64",
            Arch::X86 => "x86",
            Arch::X32 => "x32",
            Arch::Aarch64 => "arm64",
            Arch::Arm => "arm",
        }
    }
}

/// Another architecture's name in a profile is fine and means nothing here.
pub(super) enum Named {
    Known(Arch),
    Native,
    Foreign,
}

impl FromStr for Named {
    type Err = ();

    fn from_str(text: &str) -> Result<Named, ()> {
        #[rustfmt::skip]
        let foreign = [
            "MIPS", "MIPS64", "MIPS64N32", "MIPSEL", "MIPSEL64", "MIPSEL64N32", "PPC", "PPC64", "PPC64LE", "S390",
            "S390X", "RISCV64", "LOONGARCH64", "M68K", "SH", "SHEB", "PARISC", "PARISC64",
        ];
        match text.strip_prefix("SCMP_ARCH_").ok_or(())? {
            "X86_64" => Ok(Named::Known(Arch::X86_64)),
            "X86" => Ok(Named::Known(Arch::X86)),
            "X32" => Ok(Named::Known(Arch::X32)),
            "AARCH64" => Ok(Named::Known(Arch::Aarch64)),
            "ARM" => Ok(Named::Known(Arch::Arm)),
            "NATIVE" => Ok(Named::Native),
            other if foreign.contains(&other) => Ok(Named::Foreign),
            _ => Err(()),
        }
    }
}
