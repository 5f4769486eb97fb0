//! From a profile to a classic BPF program.
//!
//! ```text
//!   load arch ── one comparison an architecture ──> load nr ── binary search ──> leaf: return, or check arguments
//! ```
//! The program is built from its end to its start: a jump's targets then exist before the jump, so every distance is
//! known, and a target that a conditional jump's 8 bits cannot reach gets a stepping stone right behind the jump.

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::arch::X32_BIT;
use super::{Action, Arch, ArgCheck, Compare, Error, Profile, Rule};

/// `BPF_MAXINSNS`.
pub const MAX_INSTRUCTIONS: usize = 4096;

const LD_W_ABS: u16 = 0x20;
const ALU_AND_K: u16 = 0x54;
const JMP_JA: u16 = 0x05;
const JMP_JEQ_K: u16 = 0x15;
const JMP_JGT_K: u16 = 0x25;
const JMP_JGE_K: u16 = 0x35;
const RET_K: u16 = 0x06;

/// Offsets in the kernel's `struct seccomp_data`.
const DATA_NR: u32 = 0;
const DATA_ARCH: u32 = 4;
const DATA_ARGS: u32 = 16;

const ENOSYS: u16 = libc::ENOSYS as u16;

/// One classic BPF instruction, laid out as the kernel's `struct sock_filter`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Instruction {
    /// Operation.
    pub code: u16,
    /// Distance if true.
    pub jt: u8,
    /// Distance if false.
    pub jf: u8,
    /// Operand.
    pub k: u32,
}

/// A filter ready to load, as a hexadecimal string in JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Program {
    /// `SECCOMP_FILTER_FLAG_*`.
    pub flags: u32,
    /// In the machine's byte order.
    #[serde(serialize_with = "to_hex", deserialize_with = "from_hex")]
    pub instructions: Vec<Instruction>,
}

/// Compiles a profile for the architectures it lists.
pub fn compile(profile: &Profile) -> Result<Program, Error> {
    let mut builder = Builder::default();
    let mut audits: Vec<u32> = Vec::new();
    for arch in &profile.arches {
        if !audits.contains(&arch.audit()) {
            audits.push(arch.audit());
        }
    }
    let mut sections = Vec::new();
    for audit in audits.iter().rev() {
        let search = builder.search(&intervals(profile, *audit));
        sections.push((*audit, builder.load(DATA_NR, search)));
    }
    let mut next = builder.ret(Action::KillProcess);
    for (audit, section) in sections {
        next = builder.branch(JMP_JEQ_K, audit, section, next);
    }
    builder.load(DATA_ARCH, next);
    builder.finish(profile.flags)
}

/// What happens to one syscall number.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Leaf {
    Fixed(Action),
    /// Alternatives in order, each a list of checks that must all hold; then the rest.
    Checked {
        wide: bool,
        alternatives: Vec<(Vec<ArgCheck>, Action)>,
        otherwise: Action,
    },
}

/// The whole range of numbers under one audit number, cut where the verdict changes; the first starts at 0.
fn intervals(profile: &Profile, audit: u32) -> Vec<(u32, Leaf)> {
    let newer = match profile.default {
        Action::Allow | Action::Log | Action::Trace(_) => profile.default,
        _ => Action::Errno(ENOSYS),
    };
    let mut cuts: Vec<(u32, Leaf)> = Vec::new();
    let mut cut = |start: u32, leaf: Leaf| {
        if cuts.last().is_none_or(|(_, last)| *last != leaf) {
            cuts.push((start, leaf));
        }
    };
    let bases: &[(Arch, u32)] = match audit {
        a if a == Arch::X86_64.audit() => &[(Arch::X86_64, 0), (Arch::X32, X32_BIT)],
        a if a == Arch::X86.audit() => &[(Arch::X86, 0)],
        a if a == Arch::Arm.audit() => &[(Arch::Arm, 0)],
        _ => &[(Arch::Aarch64, 0)],
    };
    for (arch, base) in bases {
        if !profile.arches.contains(arch) {
            cut(*base, Leaf::Fixed(Action::KillProcess));
            continue;
        }
        let mut at = *base;
        let leaves = leaves(profile, *arch);
        let named = !leaves.is_empty();
        for (number, leaf) in leaves {
            if number > at {
                cut(at, Leaf::Fixed(profile.default));
            }
            cut(number, leaf);
            at = number + 1;
        }
        cut(at, Leaf::Fixed(if named { newer } else { profile.default }));
    }
    // A tracer that skips a syscall leaves the number -1 behind: no architecture's, and no reason to kill.
    cut(u32::MAX, Leaf::Fixed(profile.default));
    cuts
}

fn leaves(profile: &Profile, arch: Arch) -> BTreeMap<u32, Leaf> {
    let mut rules: BTreeMap<u32, Vec<&Rule>> = BTreeMap::new();
    for rule in &profile.rules {
        for number in rule.names.iter().filter_map(|name| arch.number(name)) {
            rules.entry(number).or_default().push(rule);
        }
    }
    rules.into_iter().map(|(number, rules)| (number, leaf(&rules, profile.default, arch.is_64_bit()))).collect()
}

fn leaf(rules: &[&Rule], default: Action, wide: bool) -> Leaf {
    let otherwise = rules.iter().find(|rule| rule.args.is_empty()).map_or(default, |rule| rule.action);
    let mut alternatives = Vec::new();
    for rule in rules.iter().filter(|rule| !rule.args.is_empty()) {
        let mut seen = [false; 256];
        let repeated = rule.args.iter().any(|check| std::mem::replace(&mut seen[check.index as usize], true));
        if repeated {
            alternatives.extend(rule.args.iter().map(|check| (vec![*check], rule.action)));
        } else {
            alternatives.push((rule.args.clone(), rule.action));
        }
    }
    // An alternative with the outcome of the rest changes nothing if no other follows it.
    while alternatives.last().is_some_and(|(_, action)| *action == otherwise) {
        alternatives.pop();
    }
    if alternatives.is_empty() { Leaf::Fixed(otherwise) } else { Leaf::Checked { wide, alternatives, otherwise } }
}

/// A position in the reversed program; 0 is its last instruction.
type Position = usize;

#[derive(Default)]
struct Builder {
    reversed: Vec<Instruction>,
    returns: HashMap<u32, Position>,
}

impl Builder {
    fn push(&mut self, code: u16, jt: u8, jf: u8, k: u32) -> Position {
        self.reversed.push(Instruction { code, jt, jf, k });
        self.reversed.len() - 1
    }

    /// A return within reach: an earlier one, or a new one.
    fn ret(&mut self, action: Action) -> Position {
        let value = return_value(action);
        if let Some(position) = self.returns.get(&value)
            && self.reversed.len() - position < 128
        {
            return *position;
        }
        let position = self.push(RET_K, 0, 0, value);
        self.returns.insert(value, position);
        position
    }

    /// Where a jump to `target` can aim, if at most `more` instructions come between now and the jump.
    fn near(&mut self, target: Position, more: usize) -> Position {
        if self.reversed.len() - target - 1 + more <= u8::MAX as usize {
            return target;
        }
        let distance = (self.reversed.len() - target - 1) as u32;
        match self.reversed[target] {
            far @ Instruction { code: RET_K, .. } => self.push(RET_K, 0, 0, far.k),
            _ => self.push(JMP_JA, 0, 0, distance),
        }
    }

    fn branch(&mut self, code: u16, k: u32, yes: Position, no: Position) -> Position {
        let yes = self.near(yes, 1);
        let no = self.near(no, 0);
        let distance = |target: Position| (self.reversed.len() - target - 1) as u8;
        let (jt, jf) = (distance(yes), distance(no));
        self.push(code, jt, jf, k)
    }

    fn search(&mut self, intervals: &[(u32, Leaf)]) -> Position {
        match intervals {
            [] => self.ret(Action::KillProcess),
            [(_, leaf)] => self.leaf(leaf),
            _ => {
                let (low, high) = intervals.split_at(intervals.len() / 2);
                let yes = self.search(high);
                let no = self.search(low);
                self.branch(JMP_JGE_K, high[0].0, yes, no)
            }
        }
    }

    fn leaf(&mut self, leaf: &Leaf) -> Position {
        match leaf {
            Leaf::Fixed(action) => self.ret(*action),
            Leaf::Checked { wide, alternatives, otherwise } => {
                let mut next = self.ret(*otherwise);
                for (checks, action) in alternatives.iter().rev() {
                    let mut yes = self.ret(*action);
                    for check in checks.iter().rev() {
                        yes = self.check(check, *wide, yes, next);
                    }
                    next = yes;
                }
                next
            }
        }
    }

    fn check(&mut self, check: &ArgCheck, wide: bool, yes: Position, no: Position) -> Position {
        match check.op {
            Compare::Eq => self.equal(check, wide, u64::MAX, yes, no),
            Compare::Ne => self.equal(check, wide, u64::MAX, no, yes),
            Compare::MaskedEq { mask } => self.equal(check, wide, mask, yes, no),
            Compare::Gt => self.greater(check, wide, JMP_JGT_K, yes, no),
            Compare::Ge => self.greater(check, wide, JMP_JGE_K, yes, no),
            Compare::Lt => self.greater(check, wide, JMP_JGE_K, no, yes),
            Compare::Le => self.greater(check, wide, JMP_JGT_K, no, yes),
        }
    }

    fn equal(&mut self, check: &ArgCheck, wide: bool, mask: u64, yes: Position, no: Position) -> Position {
        let low = self.equal_half(check, Half::Low, mask as u32, yes, no);
        if wide { self.equal_half(check, Half::High, (mask >> 32) as u32, low, no) } else { low }
    }

    fn equal_half(&mut self, check: &ArgCheck, half: Half, mask: u32, yes: Position, no: Position) -> Position {
        if mask == 0 && half.of(check.value) == 0 {
            return yes;
        }
        let mut next = self.branch(JMP_JEQ_K, half.of(check.value), yes, no);
        if mask != u32::MAX {
            next = self.push(ALU_AND_K, 0, 0, mask);
        }
        self.load(half.offset(check.index), next)
    }

    fn greater(&mut self, check: &ArgCheck, wide: bool, code: u16, yes: Position, no: Position) -> Position {
        let jump = self.branch(code, Half::Low.of(check.value), yes, no);
        let low = self.load(Half::Low.offset(check.index), jump);
        if !wide {
            return low;
        }
        let same = self.branch(JMP_JEQ_K, Half::High.of(check.value), low, no);
        let above = self.branch(JMP_JGT_K, Half::High.of(check.value), yes, same);
        self.load(Half::High.offset(check.index), above)
    }

    /// Loads a word of `struct seccomp_data` and goes on at `then`.
    fn load(&mut self, offset: u32, then: Position) -> Position {
        if then + 1 != self.reversed.len() {
            let distance = (self.reversed.len() - then - 1) as u32;
            self.push(JMP_JA, 0, 0, distance);
        }
        self.push(LD_W_ABS, 0, 0, offset)
    }

    fn finish(mut self, flags: u32) -> Result<Program, Error> {
        if self.reversed.len() > MAX_INSTRUCTIONS {
            return Err(Error::TooLarge(self.reversed.len()));
        }
        self.reversed.reverse();
        Ok(Program { flags, instructions: self.reversed })
    }
}

#[derive(Clone, Copy)]
enum Half {
    Low,
    High,
}

impl Half {
    fn of(self, value: u64) -> u32 {
        match self {
            Half::Low => value as u32,
            Half::High => (value >> 32) as u32,
        }
    }

    /// Where it is in `struct seccomp_data`; both supported machines are little-endian.
    fn offset(self, index: u8) -> u32 {
        let argument = DATA_ARGS + 8 * u32::from(index);
        match self {
            Half::Low => argument,
            Half::High => argument + 4,
        }
    }
}

fn return_value(action: Action) -> u32 {
    match action {
        Action::KillProcess => 0x8000_0000,
        Action::KillThread => 0,
        Action::Trap => 0x0003_0000,
        Action::Errno(errno) => 0x0005_0000 | u32::from(errno),
        Action::Trace(message) => 0x7ff0_0000 | u32::from(message),
        Action::Log => 0x7ffc_0000,
        Action::Allow => 0x7fff_0000,
    }
}

fn to_hex<S: Serializer>(instructions: &[Instruction], serializer: S) -> Result<S::Ok, S::Error> {
    use std::fmt::Write;
    let mut text = String::with_capacity(instructions.len() * 16);
    for i in instructions {
        write!(text, "{:04x}{:02x}{:02x}{:08x}", i.code, i.jt, i.jf, i.k).map_err(serde::ser::Error::custom)?;
    }
    serializer.serialize_str(&text)
}

fn from_hex<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Instruction>, D::Error> {
    let text = String::deserialize(deserializer)?;
    let (chunks, rest) = text.as_bytes().as_chunks::<16>();
    let instruction = |chunk: &[u8; 16]| {
        let value = std::str::from_utf8(chunk).ok().and_then(|hex| u64::from_str_radix(hex, 16).ok())?;
        Some(Instruction {
            code: (value >> 48) as u16,
            jt: (value >> 40) as u8,
            jf: (value >> 32) as u8,
            k: value as u32,
        })
    };
    let all: Option<Vec<Instruction>> = chunks.iter().map(instruction).collect();
    match all {
        Some(all) if rest.is_empty() && !all.is_empty() && all.len() <= MAX_INSTRUCTIONS => Ok(all),
        _ => Err(serde::de::Error::custom("a seccomp program is 1 to 4096 groups of 16 hexadecimal digits")),
    }
}
