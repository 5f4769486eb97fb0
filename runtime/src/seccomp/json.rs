//! Profiles as JSON files: the OCI runtime specification's `linux.seccomp`, and Docker's superset of it.

use serde::Deserialize;

use super::arch::Named;
use super::default::SPEC_ALLOW;
use super::{Action, Arch, ArgCheck, Compare, Error, Profile, Rule};
use crate::capabilities::CapSet;

/// What a profile's conditions are decided with.
pub(super) struct Context {
    pub native: Arch,
    pub caps: CapSet,
    pub kernel: (u32, u32),
}

const ACTIONS: &str = "SCMP_ACT_{KILL,KILL_PROCESS,KILL_THREAD,TRAP,ERRNO,TRACE,ALLOW,LOG}";
const OPERATORS: &str = "SCMP_CMP_{NE,LT,LE,EQ,GE,GT,MASKED_EQ}";
const ARCHES: &str = "SCMP_ARCH_{X86_64,X86,X32,AARCH64,ARM,NATIVE} or another of libseccomp's names";
const FLAGS: &str = "SECCOMP_FILTER_FLAG_{TSYNC,LOG,SPEC_ALLOW}";

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RawProfile {
    default_action: String,
    default_errno_ret: Option<u32>,
    #[serde(default)]
    architectures: Option<Vec<String>>,
    #[serde(default)]
    arch_map: Option<Vec<RawArch>>,
    #[serde(default)]
    flags: Option<Vec<String>>,
    listener_path: Option<String>,
    #[serde(rename = "listenerMetadata")]
    _listener_metadata: Option<String>,
    #[serde(default)]
    syscalls: Option<Vec<RawRule>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RawArch {
    architecture: String,
    sub_architectures: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RawRule {
    name: Option<String>,
    #[serde(default)]
    names: Option<Vec<String>>,
    action: String,
    errno_ret: Option<u32>,
    #[serde(default)]
    args: Option<Vec<RawArg>>,
    #[serde(rename = "comment")]
    _comment: Option<String>,
    #[serde(default)]
    includes: Option<RawFilter>,
    #[serde(default)]
    excludes: Option<RawFilter>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RawArg {
    index: u32,
    value: u64,
    #[serde(default)]
    value_two: u64,
    op: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RawFilter {
    caps: Option<Vec<String>>,
    arches: Option<Vec<String>>,
    min_kernel: Option<String>,
}

pub(super) fn parse(json: &str, context: &Context) -> Result<Profile, Error> {
    let raw: RawProfile = serde_json::from_str(json)?;
    if raw.listener_path.as_deref().is_some_and(|path| !path.is_empty()) {
        let why = "a listener for notifications is not supported: remove it".to_owned();
        return Err(Error::Unsupported { path: "listenerPath".to_owned(), why });
    }
    let mut rules = Vec::new();
    for (index, rule) in raw.syscalls.iter().flatten().enumerate() {
        if let Some(rule) = read_rule(rule, &format!("syscalls[{index}]"), context)? {
            rules.push(rule);
        }
    }
    Ok(Profile {
        default: read_action(&raw.default_action, raw.default_errno_ret, "defaultAction")?,
        arches: read_arches(&raw, context)?,
        rules,
        flags: read_flags(raw.flags.as_deref())?,
    })
}

fn read_arches(raw: &RawProfile, context: &Context) -> Result<Vec<Arch>, Error> {
    let mut arches = vec![context.native];
    let mut add = |named: Named| {
        if let Named::Known(arch) = named
            && context.native.companions().contains(&arch)
            && !arches.contains(&arch)
        {
            arches.push(arch);
        }
    };
    for (index, text) in raw.architectures.iter().flatten().enumerate() {
        add(read_arch(text, &format!("architectures[{index}]"))?);
    }
    for (index, entry) in raw.arch_map.iter().flatten().enumerate() {
        let path = format!("archMap[{index}]");
        let main = read_arch(&entry.architecture, &format!("{path}.architecture"))?;
        let is_native = match main {
            Named::Known(arch) => arch == context.native,
            Named::Native => true,
            Named::Foreign => false,
        };
        for (sub, text) in entry.sub_architectures.iter().flatten().enumerate() {
            let named = read_arch(text, &format!("{path}.subArchitectures[{sub}]"))?;
            if is_native {
                add(named);
            }
        }
    }
    Ok(arches)
}

fn read_arch(text: &str, path: &str) -> Result<Named, Error> {
    text.parse().map_err(|()| unknown(path, "architecture", text, ARCHES))
}

fn read_rule(raw: &RawRule, path: &str, context: &Context) -> Result<Option<Rule>, Error> {
    let action = read_action(&raw.action, raw.errno_ret, &format!("{path}.action"))?;
    let args = raw.args.iter().flatten().enumerate();
    let args = args.map(|(i, arg)| read_arg(arg, &format!("{path}.args[{i}]"))).collect::<Result<_, _>>()?;
    let names: Vec<String> = raw.name.iter().chain(raw.names.iter().flatten()).cloned().collect();
    if names.is_empty() {
        let why = "a rule must name at least one syscall".to_owned();
        return Err(Error::Unsupported { path: format!("{path}.names"), why });
    }
    let included = match &raw.includes {
        Some(filter) => matches_all(filter, &format!("{path}.includes"), context)?,
        None => true,
    };
    let excluded = match &raw.excludes {
        Some(filter) => matches_any(filter, &format!("{path}.excludes"), context)?,
        None => false,
    };
    Ok((included && !excluded).then_some(Rule { names, action, args }))
}

/// Every capability, one of the architectures, and the kernel: what is said must hold.
fn matches_all(filter: &RawFilter, path: &str, context: &Context) -> Result<bool, Error> {
    let caps = filter.caps.iter().flatten().all(|cap| context.caps.has_name(cap));
    let arch = filter.arches.as_ref().is_none_or(|list| list.is_empty() || has_arch(list, context));
    let kernel = match &filter.min_kernel {
        Some(text) => context.kernel >= read_kernel(text, path)?,
        None => true,
    };
    Ok(caps && arch && kernel)
}

/// Any of the capabilities, any of the architectures, or the kernel.
fn matches_any(filter: &RawFilter, path: &str, context: &Context) -> Result<bool, Error> {
    let caps = filter.caps.iter().flatten().any(|cap| context.caps.has_name(cap));
    let arch = filter.arches.as_ref().is_some_and(|list| has_arch(list, context));
    let kernel = match &filter.min_kernel {
        Some(text) => context.kernel >= read_kernel(text, path)?,
        None => false,
    };
    Ok(caps || arch || kernel)
}

fn has_arch(list: &[String], context: &Context) -> bool {
    list.iter().any(|arch| arch == context.native.go_name())
}

fn read_kernel(text: &str, path: &str) -> Result<(u32, u32), Error> {
    let known = "a version such as 4.8";
    parse_kernel(text).ok_or_else(|| unknown(&format!("{path}.minKernel"), "kernel version", text, known))
}

fn parse_kernel(text: &str) -> Option<(u32, u32)> {
    let mut parts = text.split(|c: char| !c.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// The running kernel's version; an unreadable one counts as the oldest supported.
pub(super) fn running_kernel() -> (u32, u32) {
    let uname = rustix::system::uname();
    uname.release().to_str().ok().and_then(parse_kernel).unwrap_or((5, 10))
}

fn read_arg(raw: &RawArg, path: &str) -> Result<ArgCheck, Error> {
    if raw.index > 5 {
        let why = format!("a syscall has arguments 0 to 5, not {}", raw.index);
        return Err(Error::Unsupported { path: format!("{path}.index"), why });
    }
    let (op, value) = match raw.op.as_str() {
        "SCMP_CMP_NE" => (Compare::Ne, raw.value),
        "SCMP_CMP_LT" => (Compare::Lt, raw.value),
        "SCMP_CMP_LE" => (Compare::Le, raw.value),
        "SCMP_CMP_EQ" => (Compare::Eq, raw.value),
        "SCMP_CMP_GE" => (Compare::Ge, raw.value),
        "SCMP_CMP_GT" => (Compare::Gt, raw.value),
        "SCMP_CMP_MASKED_EQ" => (Compare::MaskedEq { mask: raw.value }, raw.value_two),
        other => return Err(unknown(&format!("{path}.op"), "operator", other, OPERATORS)),
    };
    Ok(ArgCheck { index: raw.index as u8, value, op })
}

fn read_action(text: &str, errno: Option<u32>, path: &str) -> Result<Action, Error> {
    let code = |most: u32| match errno.unwrap_or(libc::EPERM as u32) {
        code if code <= most => Ok(code as u16),
        code => {
            let why = format!("the errno {code} is not between 0 and {most}");
            Err(Error::Unsupported { path: path.to_owned(), why })
        }
    };
    let plain = |action: Action| match errno {
        None => Ok(action),
        Some(_) => {
            let why = format!("{text} returns no errno: remove it");
            Err(Error::Unsupported { path: path.to_owned(), why })
        }
    };
    match text {
        "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => plain(Action::KillThread),
        "SCMP_ACT_KILL_PROCESS" => plain(Action::KillProcess),
        "SCMP_ACT_TRAP" => plain(Action::Trap),
        "SCMP_ACT_ALLOW" => plain(Action::Allow),
        "SCMP_ACT_LOG" => plain(Action::Log),
        "SCMP_ACT_ERRNO" => Ok(Action::Errno(code(4095)?)),
        "SCMP_ACT_TRACE" => Ok(Action::Trace(code(u32::from(u16::MAX))?)),
        "SCMP_ACT_NOTIFY" => {
            let why = "SCMP_ACT_NOTIFY needs a listener, which is not supported: use SCMP_ACT_ERRNO".to_owned();
            Err(Error::Unsupported { path: path.to_owned(), why })
        }
        other => Err(unknown(path, "action", other, ACTIONS)),
    }
}

fn read_flags(flags: Option<&[String]>) -> Result<u32, Error> {
    let Some(flags) = flags else { return Ok(SPEC_ALLOW) };
    let mut bits = 0;
    for (index, flag) in flags.iter().enumerate() {
        bits |= match flag.as_str() {
            // The filter is loaded by a process of one thread, which is in sync with itself.
            "SECCOMP_FILTER_FLAG_TSYNC" => 0,
            "SECCOMP_FILTER_FLAG_LOG" => 1 << 1,
            "SECCOMP_FILTER_FLAG_SPEC_ALLOW" => SPEC_ALLOW,
            other => return Err(unknown(&format!("flags[{index}]"), "flag", other, FLAGS)),
        };
    }
    Ok(bits)
}

fn unknown(path: &str, what: &'static str, value: &str, known: &'static str) -> Error {
    Error::Value { path: path.to_owned(), what, value: value.to_owned(), known }
}
