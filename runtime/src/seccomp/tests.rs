#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use proptest::prelude::*;

mod loaded;

use super::arch::X32_BIT;
use super::json::Context;
use super::*;

const EVERY: [Arch; 5] = [Arch::X86_64, Arch::X86, Arch::X32, Arch::Aarch64, Arch::Arm];
const EPERM: Action = Action::Errno(libc::EPERM as u16);
const ENOSYS: Action = Action::Errno(libc::ENOSYS as u16);

/// Runs a program as the kernel does. A program that loads, jumps or ends wrongly is a panic.
fn run(program: &Program, audit: u32, nr: u32, args: [u64; 6]) -> u32 {
    let mut data = [0u8; 64];
    data[0..4].copy_from_slice(&nr.to_le_bytes());
    data[4..8].copy_from_slice(&audit.to_le_bytes());
    for (i, arg) in args.iter().enumerate() {
        data[16 + 8 * i..24 + 8 * i].copy_from_slice(&arg.to_le_bytes());
    }
    let (mut at, mut accumulator) = (0, 0u32);
    loop {
        let i = program.instructions[at];
        at += 1;
        let mut jump = |taken: bool| at += usize::from(if taken { i.jt } else { i.jf });
        match i.code {
            0x20 => {
                assert_eq!(i.k % 4, 0);
                let word = &data[i.k as usize..i.k as usize + 4];
                accumulator = u32::from_le_bytes(word.try_into().unwrap());
            }
            0x54 => accumulator &= i.k,
            0x05 => at += i.k as usize,
            0x15 => jump(accumulator == i.k),
            0x25 => jump(accumulator > i.k),
            0x35 => jump(accumulator >= i.k),
            0x06 => return i.k,
            code => panic!("unknown instruction {code:#x}"),
        }
    }
}

fn steps(program: &Program, audit: u32, nr: u32) -> usize {
    let (mut at, mut count) = (0, 0);
    let mut accumulator = 0;
    loop {
        let i = program.instructions[at];
        at += 1;
        count += 1;
        match i.code {
            0x20 if i.k >= 16 => return count,
            0x20 => accumulator = if i.k == 0 { nr } else { audit },
            0x05 => at += i.k as usize,
            0x15 => at += usize::from(if accumulator == i.k { i.jt } else { i.jf }),
            0x35 => at += usize::from(if accumulator >= i.k { i.jt } else { i.jf }),
            _ => return count,
        }
    }
}

/// The meaning of a profile, from its definition in the module's documentation, without trees or intervals.
struct Meaning<'a> {
    profile: &'a Profile,
    arch: Arch,
    /// The rules in order, each with the numbers it is about.
    rules: Vec<(BTreeSet<u32>, &'a Rule)>,
}

impl<'a> Meaning<'a> {
    fn new(profile: &'a Profile, arch: Arch) -> Meaning<'a> {
        let numbers = |rule: &Rule| rule.names.iter().filter_map(|name| arch.number(name)).collect();
        Meaning { profile, arch, rules: profile.rules.iter().map(|rule| (numbers(rule), rule)).collect() }
    }

    fn of(&self, nr: u32, args: [u64; 6]) -> Action {
        if nr == u32::MAX {
            return self.profile.default;
        }
        let mut rules = self.rules.iter().filter(|(numbers, _)| numbers.contains(&nr)).map(|(_, rule)| *rule);
        let matching = rules.clone().find(|rule| self.matches(rule, args));
        if let Some(rule) = matching.or_else(|| rules.find(|rule| rule.args.is_empty())) {
            return rule.action;
        }
        let newest = self.rules.iter().filter_map(|(numbers, _)| numbers.last()).max();
        match self.profile.default {
            Action::Allow | Action::Log | Action::Trace(_) => self.profile.default,
            _ if newest.is_some_and(|newest| nr > *newest) => ENOSYS,
            default => default,
        }
    }

    fn matches(&self, rule: &Rule, args: [u64; 6]) -> bool {
        let indexes: BTreeSet<u8> = rule.args.iter().map(|check| check.index).collect();
        match (rule.args.is_empty(), indexes.len() == rule.args.len()) {
            (true, _) => false,
            (false, true) => rule.args.iter().all(|check| self.holds(check, args)),
            (false, false) => rule.args.iter().any(|check| self.holds(check, args)),
        }
    }

    fn holds(&self, check: &ArgCheck, args: [u64; 6]) -> bool {
        let half = |v: u64| if self.arch.is_64_bit() { v } else { v & 0xffff_ffff };
        let (arg, value) = (half(args[check.index as usize]), half(check.value));
        match check.op {
            Compare::Ne => arg != value,
            Compare::Lt => arg < value,
            Compare::Le => arg <= value,
            Compare::Eq => arg == value,
            Compare::Ge => arg >= value,
            Compare::Gt => arg > value,
            Compare::MaskedEq { mask } => arg & half(mask) == value,
        }
    }
}

fn value(action: Action) -> u32 {
    match action {
        Action::KillProcess => libc::SECCOMP_RET_KILL_PROCESS,
        Action::KillThread => libc::SECCOMP_RET_KILL_THREAD,
        Action::Trap => libc::SECCOMP_RET_TRAP,
        Action::Errno(code) => libc::SECCOMP_RET_ERRNO | u32::from(code),
        Action::Trace(code) => libc::SECCOMP_RET_TRACE | u32::from(code),
        Action::Log => libc::SECCOMP_RET_LOG,
        Action::Allow => libc::SECCOMP_RET_ALLOW,
    }
}

/// Every number a table has, the gaps, the ends, and the other interface's range.
fn numbers(arch: Arch) -> impl Iterator<Item = u32> {
    let base = if arch == Arch::X32 { X32_BIT } else { 0 };
    (base..base + 1200).chain(0xf_0000..0xf_0010).chain([X32_BIT - 1]).filter(move |nr| {
        // Above the bit, x86_64's audit number means x32; elsewhere there is no such split.
        !matches!(arch, Arch::X86_64 | Arch::X32) || (arch == Arch::X32) == (*nr >= X32_BIT)
    })
}

fn check(meaning: &Meaning<'_>, program: &Program, nr: u32, args: [u64; 6]) {
    let arch = meaning.arch;
    let expected = value(meaning.of(nr, args));
    let got = run(program, arch.audit(), nr, args);
    assert_eq!(got, expected, "{arch:?} {nr} {args:x?}: {got:#x} is not {expected:#x}");
}

fn number(arch: Arch, name: &str) -> u32 {
    arch.number(name).unwrap_or_else(|| panic!("{arch:?} has no {name}"))
}

fn verdict(caps: CapSet, arch: Arch, name: &str, first: u64) -> u32 {
    let profile = default::profile(if EVERY[..3].contains(&arch) { Arch::X86_64 } else { Arch::Aarch64 }, caps);
    let program = compile(&profile).unwrap();
    run(&program, arch.audit(), number(arch, name), [first, 0, 0, 0, 0, 0])
}

#[test]
fn the_default_program_decides_as_the_profile_for_every_number_and_architecture() {
    let sets = [CapSet::EMPTY, CapSet::DEFAULT, CapSet::ALL, CapSet::from_names(["SYS_ADMIN"]).unwrap()];
    for native in [Arch::X86_64, Arch::Aarch64] {
        for caps in sets {
            let profile = default::profile(native, caps);
            let program = compile(&profile).unwrap();
            assert!(program.instructions.len() < 1024, "{}", program.instructions.len());
            for arch in profile.arches.iter().copied() {
                let meaning = Meaning::new(&profile, arch);
                for nr in numbers(arch).chain([u32::MAX]) {
                    for first in [0, 38, 40, 0x1_0000_0028, 0x7e02_0000, 0x8000_0000_0000_0000, 8, 0xffff_ffff, !0] {
                        check(&meaning, &program, nr, [first, 0, 0, 0, 0, 0]);
                    }
                }
            }
        }
    }
}

#[test]
fn a_known_syscall_is_decided_in_a_few_steps() {
    let program = compile(&default::profile(Arch::X86_64, CapSet::DEFAULT)).unwrap();
    for nr in 0..500 {
        let steps = steps(&program, Arch::X86_64.audit(), nr);
        assert!(steps <= 16, "{nr} takes {steps} steps");
    }
}

#[test]
fn the_default_profile_as_published() {
    let allow = value(Action::Allow);
    let eperm = value(EPERM);
    let admin = CapSet::from_names(["SYS_ADMIN"]).unwrap();
    struct Row(&'static str, CapSet, u64, u32);
    let plain = CapSet::DEFAULT;
    let rows = [
        Row("read", plain, 0, allow),
        Row("mount", plain, 0, eperm),
        Row("mount", admin, 0, allow),
        Row("unshare", plain, 0, eperm),
        Row("unshare", admin, 0, allow),
        Row("clone", plain, libc::SIGCHLD as u64, allow),
        Row("clone", plain, libc::CLONE_NEWUSER as u64, eperm),
        Row("clone", plain, libc::CLONE_NEWNET as u64, eperm),
        Row("clone", admin, libc::CLONE_NEWNET as u64, allow),
        Row("clone3", plain, 0, value(ENOSYS)),
        Row("clone3", admin, 0, allow),
        Row("personality", plain, 0, allow),
        Row("personality", plain, 0xffff_ffff, allow),
        Row("personality", plain, 0x0004_0000, eperm),
        Row("socket", plain, libc::AF_INET as u64, allow),
        Row("socket", plain, libc::AF_VSOCK as u64, eperm),
        Row("socket", plain, libc::AF_ALG as u64, eperm),
        Row("io_uring_setup", plain, 0, eperm),
        Row("io_uring_enter", admin, 0, eperm),
        Row("chroot", plain, 0, allow),
        Row("chroot", CapSet::EMPTY, 0, eperm),
        Row("keyctl", plain, 0, eperm),
        Row("kexec_load", CapSet::ALL, 0, eperm),
        Row("userfaultfd", plain, 0, eperm),
        Row("bpf", plain, 0, eperm),
        Row("bpf", CapSet::from_names(["BPF"]).unwrap(), 0, allow),
        Row("ptrace", plain, 0, allow),
    ];
    for Row(name, caps, first, expected) in rows {
        for arch in [Arch::X86_64, Arch::Aarch64] {
            assert_eq!(verdict(caps, arch, name, first), expected, "{name}({first:#x}) {arch:?} {caps:?}");
        }
    }
    // Values beyond 32 bits are not the low halves they hide.
    assert_eq!(verdict(plain, Arch::X86_64, "personality", 1 << 32), eperm);
    // 32-bit programs have the same rules under their own numbers.
    assert_eq!(verdict(plain, Arch::X86, "socket", libc::AF_VSOCK as u64), eperm);
    assert_eq!(verdict(plain, Arch::X86, "waitpid", 0), allow);
    assert_eq!(verdict(plain, Arch::X32, "execve", 0), allow);
    assert_eq!(number(Arch::X32, "execve"), 520 | X32_BIT);
    assert_eq!(verdict(plain, Arch::Arm, "set_tls", 0), allow);
    // An architecture outside the profile.
    let program = compile(&default::profile(Arch::X86_64, plain)).unwrap();
    assert_eq!(run(&program, Arch::Aarch64.audit(), 0, [0; 6]), value(Action::KillProcess));
}

#[test]
fn every_name_of_the_default_profile_exists_somewhere() {
    // Aliases of other architectures and of the past, which profiles carry along.
    let elsewhere = ["getsid"];
    for native in [Arch::X86_64, Arch::Aarch64] {
        for rule in default::profile(native, CapSet::ALL).rules {
            for name in rule.names {
                let known = EVERY.iter().any(|arch| arch.number(&name).is_some());
                assert!(known || elsewhere.contains(&name.as_str()), "{name} is no syscall");
            }
        }
    }
}

#[test]
fn a_syscall_newer_than_the_profile_gets_enosys() {
    let profile = default::profile(Arch::X86_64, CapSet::DEFAULT);
    let program = compile(&profile).unwrap();
    assert_eq!(run(&program, Arch::X86_64.audit(), 1000, [0; 6]), value(ENOSYS));
    assert_eq!(run(&program, Arch::X86.audit(), 1000, [0; 6]), value(ENOSYS));
    assert_eq!(run(&program, Arch::X86_64.audit(), u32::MAX, [0; 6]), value(EPERM));
}

#[test]
fn the_default_program_is_compiled_once_for_a_set() {
    let first = default_program(CapSet::DEFAULT).unwrap();
    assert_eq!(*first, compile(&Profile::runtime_default(CapSet::DEFAULT).unwrap()).unwrap());
    assert!(std::sync::Arc::ptr_eq(&first, &default_program(CapSet::DEFAULT).unwrap()));
    for number in 0..40 {
        default_program(CapSet(1 << number)).unwrap();
    }
    let admin = default_program(CapSet(1 << 21)).unwrap();
    assert_eq!(*admin, compile(&Profile::runtime_default(CapSet(1 << 21)).unwrap()).unwrap());
}

#[test]
fn a_program_survives_json() {
    let program = compile(&default::profile(Arch::X86_64, CapSet::DEFAULT)).unwrap();
    let json = serde_json::to_string(&program).unwrap();
    assert_eq!(serde_json::from_str::<Program>(&json).unwrap(), program);
    for bad in ["", "zz", "00", "000000000000000g", &"0".repeat(16 * 4097)] {
        let json = serde_json::json!({"flags": 0, "instructions": bad});
        assert!(serde_json::from_value::<Program>(json).is_err(), "{bad}");
    }
}

#[test]
fn a_program_too_large_for_the_kernel_is_refused() {
    let args = |value| vec![ArgCheck { index: 0, value, op: Compare::Eq }];
    let rules = (0..2000).map(|n| Rule { names: vec!["read".to_owned()], action: Action::Allow, args: args(n) });
    let profile = Profile { default: EPERM, arches: vec![Arch::X86_64], rules: rules.collect(), flags: 0 };
    assert!(matches!(compile(&profile), Err(Error::TooLarge(n)) if n > MAX_INSTRUCTIONS));
}

fn context(caps: CapSet) -> Context {
    Context { native: Arch::X86_64, caps, kernel: (5, 10) }
}

fn parse(json: &str) -> Result<Profile, Error> {
    json::parse(json, &context(CapSet::DEFAULT))
}

#[test]
fn an_oci_profile_is_read() {
    let profile = parse(
        r#"{"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 13,
            "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X32", "SCMP_ARCH_S390X"],
            "flags": ["SECCOMP_FILTER_FLAG_LOG"],
            "syscalls": [
              {"names": ["read", "no_such_call"], "action": "SCMP_ACT_ALLOW"},
              {"names": ["clone"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38,
               "args": [{"index": 1, "value": 255, "valueTwo": 16, "op": "SCMP_CMP_MASKED_EQ"}]}]}"#,
    )
    .unwrap();
    let check = ArgCheck { index: 1, value: 16, op: Compare::MaskedEq { mask: 255 } };
    let expected = Profile {
        default: Action::Errno(13),
        arches: vec![Arch::X86_64, Arch::X32],
        rules: vec![
            Rule { names: vec!["read".into(), "no_such_call".into()], action: Action::Allow, args: vec![] },
            Rule { names: vec!["clone".into()], action: ENOSYS, args: vec![check] },
        ],
        flags: 2,
    };
    assert_eq!(profile, expected);
}

#[test]
fn conditions_of_a_docker_profile_are_decided() {
    let rule = |condition: &str| {
        let json = format!(
            r#"{{"defaultAction": "SCMP_ACT_ERRNO",
                "archMap": [{{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]}},
                            {{"architecture": "SCMP_ARCH_AARCH64", "subArchitectures": ["SCMP_ARCH_ARM"]}}],
                "syscalls": [{{"names": ["read"], "action": "SCMP_ACT_ALLOW", "comment": "x", {condition}}}]}}"#
        );
        let profile = parse(&json).unwrap();
        assert_eq!(profile.arches, [Arch::X86_64, Arch::X86]);
        profile.rules.len() == 1
    };
    assert!(rule(r#""includes": {}, "excludes": {}"#));
    assert!(rule(r#""includes": {"caps": ["CAP_CHOWN"]}"#));
    assert!(!rule(r#""includes": {"caps": ["CAP_CHOWN", "CAP_SYS_ADMIN"]}"#));
    assert!(!rule(r#""excludes": {"caps": ["CAP_SYS_ADMIN", "CAP_CHOWN"]}"#));
    assert!(rule(r#""excludes": {"caps": ["CAP_SYS_ADMIN"]}"#));
    assert!(rule(r#""includes": {"arches": ["x32", "amd64"]}"#));
    assert!(!rule(r#""includes": {"arches": ["arm64"]}"#));
    assert!(!rule(r#""excludes": {"arches": ["amd64"]}"#));
    assert!(rule(r#""includes": {"minKernel": "4.8"}"#));
    assert!(!rule(r#""includes": {"minKernel": "5.11"}"#));
    assert!(!rule(r#""excludes": {"minKernel": "5.10"}"#));
}

#[test]
fn what_a_profile_must_not_say_is_an_error_with_its_place() {
    let rows = [
        ("{", "read the seccomp profile"),
        ("{}", "missing field `defaultAction`"),
        (r#"{"defaultAction": "ALLOW"}"#, r#"defaultAction: action "ALLOW""#),
        (r#"{"defaultAction": "SCMP_ACT_NOTIFY"}"#, "defaultAction: SCMP_ACT_NOTIFY needs a listener"),
        (r#"{"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 5000}"#, "errno 5000"),
        (r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscals": []}"#, "unknown field `syscals`"),
        (r#"{"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["x86"]}"#, r#"architectures[0]: architecture "x86""#),
        (r#"{"defaultAction": "SCMP_ACT_ALLOW", "flags": ["X"]}"#, "flags[0]: flag \"X\""),
        (r#"{"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/run/x"}"#, "listenerPath: a listener"),
        (r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"action": "SCMP_ACT_KILL"}]}"#, "syscalls[0].names"),
        (
            r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["a"], "action": "SCMP_ACT_KILL", "errnoRet": 1}]}"#,
            "syscalls[0].action: SCMP_ACT_KILL returns no errno",
        ),
        (
            r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["a"], "action": "SCMP_ACT_KILL", "args": [{"index": 6, "value": 0, "op": "SCMP_CMP_EQ"}]}]}"#,
            "syscalls[0].args[0].index",
        ),
        (
            r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["a"], "action": "SCMP_ACT_KILL", "args": [{"index": 0, "value": 0, "op": "=="}]}]}"#,
            r#"syscalls[0].args[0].op: operator "==""#,
        ),
    ];
    for (json, message) in rows {
        let error = parse(json).unwrap_err().to_string();
        assert!(error.contains(message), "{json}: {error}");
    }
}

fn random_action() -> impl Strategy<Value = Action> {
    prop_oneof![
        Just(Action::Allow),
        Just(Action::KillProcess),
        Just(Action::KillThread),
        Just(Action::Trap),
        Just(Action::Log),
        (0u16..4095).prop_map(Action::Errno),
        any::<u16>().prop_map(Action::Trace),
    ]
}

/// Values near each other and around the halves' borders, so that comparisons come out both ways.
fn random_value() -> impl Strategy<Value = u64> {
    prop_oneof![0u64..4, (0u64..4).prop_map(|v| v << 32), (0u64..4).prop_map(|v| (1 << 32) + v), any::<u64>(), Just(!0)]
}

fn random_check() -> impl Strategy<Value = ArgCheck> {
    let op = prop_oneof![
        Just(Compare::Ne),
        Just(Compare::Lt),
        Just(Compare::Le),
        Just(Compare::Eq),
        Just(Compare::Ge),
        Just(Compare::Gt),
        random_value().prop_map(|mask| Compare::MaskedEq { mask }),
    ];
    (0u8..6, random_value(), op).prop_map(|(index, value, op)| ArgCheck { index, value, op })
}

fn random_rule() -> impl Strategy<Value = Rule> {
    let name = prop_oneof![
        prop::sample::select(vec!["read", "write", "clone", "socket", "execve", "mseal", "set_tls", "waitpid"]),
        prop::sample::select(
            (0..460).filter_map(|nr| Some(syscalls::x86_64::Sysno::new(nr)?.name())).collect::<Vec<_>>()
        ),
    ];
    let names = prop::collection::vec(name.prop_map(str::to_owned), 1..30);
    (names, random_action(), prop::collection::vec(random_check(), 0..4)).prop_map(|(names, action, args)| Rule {
        names,
        action,
        args,
    })
}

fn random_profile() -> impl Strategy<Value = Profile> {
    let arches = prop::sample::select(vec![
        vec![Arch::X86_64],
        vec![Arch::X86_64, Arch::X32],
        vec![Arch::X86_64, Arch::X86, Arch::X32],
        vec![Arch::Aarch64, Arch::Arm],
    ]);
    (random_action(), arches, prop::collection::vec(random_rule(), 0..12))
        .prop_map(|(default, arches, rules)| Profile { default, arches, rules, flags: 0 })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn any_program_decides_as_its_profile(profile in random_profile(), args in prop::array::uniform6(random_value())) {
        match compile(&profile) {
            Err(Error::TooLarge(_)) => {}
            Err(other) => panic!("{other}"),
            Ok(program) => {
                for arch in profile.arches.iter().copied() {
                    let meaning = Meaning::new(&profile, arch);
                    for nr in numbers(arch).chain([u32::MAX]) {
                        check(&meaning, &program, nr, args);
                    }
                }
            }
        }
    }
}
