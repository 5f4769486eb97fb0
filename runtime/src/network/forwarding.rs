//! The sysctls that let the host forward its pods' packets, and restoring them.

use std::collections::BTreeMap;

use super::ranges::Ranges;
use super::state::Locked;
use super::survey::is_ours;
use super::sysctl;
use crate::error::{During as _, Result};

const V4: &str = "net.ipv4.ip_forward";
const V6: &str = "net.ipv6.conf.all.forwarding";

/// Switches forwarding on. What was there before is written down first.
pub fn enable(locked: &mut Locked, ranges: &Ranges) -> Result<()> {
    let mut steps: Vec<(String, &str)> = Vec::new();
    let mut before: BTreeMap<String, String> = BTreeMap::new();
    let mut remember = |name: String| {
        if let Some(value) = sysctl::read(&name) {
            before.insert(name, value);
        }
    };
    let is_off = |name: &str| sysctl::read(name).as_deref() == Some("0");
    if ranges.v4.is_some() && is_off(V4) {
        remember(V4.into());
        // The kernel changes these along with it.
        remember("net.ipv4.conf.all.accept_redirects".into());
        interfaces("ipv4").iter().for_each(|it| remember(format!("net.ipv4.conf.{it}.forwarding")));
        steps.push((V4.into(), "1"));
    }
    if ranges.v6.is_some() && is_off(V6) {
        remember(V6.into());
        for interface in interfaces("ipv6") {
            remember(format!("net.ipv6.conf.{interface}.forwarding"));
            let name = format!("net.ipv6.conf.{interface}.accept_ra");
            // A router hears no other router unless told so; the host would lose its own routes.
            if sysctl::read(&name).as_deref() == Some("1") {
                remember(name.clone());
                steps.push((name, "2"));
            }
        }
        steps.push((V6.into(), "1"));
    }
    if steps.is_empty() {
        return Ok(());
    }
    for (name, value) in before {
        // The first value is the host's own; a later one may be ours.
        locked.shared.sysctls.entry(name).or_insert(value);
    }
    locked.save().during(|| "write down what the host's sysctls are".into())?;
    for (name, value) in steps {
        sysctl::write(&name, value).during(|| "let the host forward the packets of pods".into())?;
    }
    Ok(())
}

/// Sets what was changed back to what it was; the names of what was. What somebody else has changed since stays.
pub fn restore(locked: &mut Locked) -> Result<Vec<String>> {
    let mut restored = Vec::new();
    for (name, on) in [(V4, "1"), (V6, "1")] {
        let Some(old) = locked.shared.sysctls.get(name) else { continue };
        if sysctl::read(name).as_deref() == Some(on) {
            sysctl::write(name, old).during(|| "restore the host's sysctls".into())?;
            restored.push(name.to_owned());
        }
    }
    // The rest after these two, which change it.
    for (name, old) in &locked.shared.sysctls {
        let now = sysctl::read(name);
        let ours = !name.ends_with(".accept_ra") || now.as_deref() == Some("2");
        if name != V4 && name != V6 && ours && now.as_ref().is_some_and(|it| it != old) {
            sysctl::write(name, old).during(|| "restore the host's sysctls".into())?;
            restored.push(name.clone());
        }
    }
    locked.shared.sysctls.clear();
    Ok(restored)
}

/// The interfaces that have settings of a family, `default` among them; not the pods'. A dot in a name is a slash.
fn interfaces(family: &str) -> Vec<String> {
    let entries = std::fs::read_dir(format!("/proc/sys/net/{family}/conf")).into_iter().flatten().flatten();
    let names = entries.filter_map(|it| it.file_name().into_string().ok());
    names.filter(|it| it != "all" && !is_ours(it)).map(|it| it.replace('.', "/")).collect()
}
