//! Version 2's device rules: a small eBPF program on the cgroup.
//!
//! The kernel runs it for every mknod and open of a device file, with the access, major and minor in its context; 1
//! allows, 0 is EPERM.

use std::os::fd::AsFd;

use super::dir::Dir;
use super::{DeviceKind, DeviceRule, Error};
use crate::sys::bpf::{self, Insn};

const LDX_W: u8 = 0x61;
const ALU_AND_K: u8 = 0x54;
const ALU_RSH_K: u8 = 0x74;
const ALU_MOV_X: u8 = 0xbc;
const MOV64_K: u8 = 0xb7;
const JMP32_JNE_K: u8 = 0x56;
const EXIT: u8 = 0x95;

/// Registers: the verdict, the context, then the context's parts, then a scratch.
const VERDICT: u8 = 0;
const CONTEXT: u8 = 1;
const KIND: u8 = 2;
const ACCESS: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;
const SCRATCH: u8 = 6;

/// `BPF_DEVCG_DEV_*` and `BPF_DEVCG_ACC_*`.
const BLOCK: i32 = 1;
const CHAR: i32 = 2;
const MKNOD: i32 = 1;
const READ: i32 = 2;
const WRITE: i32 = 4;

/// Puts the program of these rules on a cgroup, in the place of one that is there.
pub(super) fn apply(dir: &Dir, rules: &[DeviceRule]) -> Result<(), Error> {
    let fail = |op| move |source| Error::DeviceProgram { op, path: dir.path.clone(), source };
    let old = bpf::device_programs(dir.fd.as_fd()).map_err(fail("query"))?;
    let program = bpf::load_device_program(&assemble(rules)).map_err(fail("load"))?;
    bpf::attach_device_program(dir.fd.as_fd(), program.as_fd()).map_err(fail("attach"))?;
    // The new one is in force before the old one goes: at no moment is everything allowed.
    for old in old {
        bpf::detach_device_program(dir.fd.as_fd(), old.as_fd()).map_err(fail("detach"))?;
    }
    Ok(())
}

/// The program: any rule that matches allows.
pub(super) fn assemble(rules: &[DeviceRule]) -> Vec<Insn> {
    let mut program = vec![
        insn(LDX_W, KIND, CONTEXT, 0, 0),
        insn(ALU_MOV_X, ACCESS, KIND, 0, 0),
        insn(ALU_AND_K, KIND, 0, 0, 0xffff),
        insn(ALU_RSH_K, ACCESS, 0, 0, 16),
        insn(LDX_W, MAJOR, CONTEXT, 4, 0),
        insn(LDX_W, MINOR, CONTEXT, 8, 0),
    ];
    for rule in rules {
        let block = rule_block(rule);
        let always = block.len() == 2;
        program.extend(block);
        if always {
            // The verifier refuses what cannot be reached.
            return program;
        }
    }
    program.extend(verdict(0));
    program
}

/// The tests of one rule, each of which jumps behind the block when it fails, and the verdict.
fn rule_block(rule: &DeviceRule) -> Vec<Insn> {
    let mut tests = Vec::new();
    match rule.kind {
        DeviceKind::All => {}
        DeviceKind::Char => tests.push(insn(JMP32_JNE_K, KIND, 0, 0, CHAR)),
        DeviceKind::Block => tests.push(insn(JMP32_JNE_K, KIND, 0, 0, BLOCK)),
    }
    let denied = [(rule.access.mknod, MKNOD), (rule.access.read, READ), (rule.access.write, WRITE)]
        .iter()
        .filter(|(allowed, _)| !allowed)
        .fold(0, |mask, (_, bit)| mask | bit);
    if denied != 0 {
        // Nothing of what is asked may be among what is not allowed.
        tests.push(insn(ALU_MOV_X, SCRATCH, ACCESS, 0, 0));
        tests.push(insn(ALU_AND_K, SCRATCH, 0, 0, denied));
        tests.push(insn(JMP32_JNE_K, SCRATCH, 0, 0, 0));
    }
    if let Some(major) = rule.major {
        tests.push(insn(JMP32_JNE_K, MAJOR, 0, 0, major as i32));
    }
    if let Some(minor) = rule.minor {
        tests.push(insn(JMP32_JNE_K, MINOR, 0, 0, minor as i32));
    }
    tests.extend(verdict(1));
    let len = tests.len();
    for (at, test) in tests.iter_mut().enumerate().filter(|(_, test)| test.code == JMP32_JNE_K) {
        test.off = (len - at - 1) as i16;
    }
    tests
}

fn verdict(allow: i32) -> [Insn; 2] {
    [insn(MOV64_K, VERDICT, 0, 0, allow), insn(EXIT, 0, 0, 0, 0)]
}

fn insn(code: u8, destination: u8, source: u8, off: i16, imm: i32) -> Insn {
    Insn { code, regs: source << 4 | destination, off, imm }
}
