//! What pods' networks need: forwarding, nf_tables, addresses that nobody uses.

use std::path::PathBuf;

use super::kernel::{has_module, has_symbol};
use super::{Finding, Options};
use crate::network::{self, cni};

pub(super) fn findings(options: &Options) -> Vec<Finding> {
    let release = options.proc("sys/kernel/osrelease").unwrap_or_default();
    let mut findings = vec![
        nf_tables(options, &release),
        conntrack(options, &release),
        bridges(options, &release),
        bandwidth(options, &release),
        ipv6(options),
        forwarding(options),
    ];
    findings.extend(foreign_rules(network::nft::dropping_forward_chains().unwrap_or_default()));
    findings.push(range(network::free_ranges(&options.state_dir)));
    findings.extend(plugged(options));
    findings
}

/// What Coracle cannot mend by itself, without a look at the kernel's symbols, which takes its time. `choose`: no range
/// was named, so that one has to be found.
pub(super) fn essentials(options: &Options, choose: bool) -> Vec<Finding> {
    let mut findings = vec![forwarding(options)];
    if choose {
        findings.push(range(network::free_ranges(&options.state_dir)));
    }
    findings
}

fn nf_tables(options: &Options, release: &str) -> Finding {
    const TOPIC: &str = "nf_tables";
    if has_module(options, release, "nf_tables") || has_symbol(options, "nft_register_expr") {
        return Finding::ok(TOPIC, "the kernel has it");
    }
    Finding::degraded(TOPIC, "the kernel has no nf_tables, or hides its symbols")
        .so("pods with a network of their own do not start; hostNetwork: true works")
        .remedy("modprobe nf_tables, or boot a kernel with CONFIG_NF_TABLES_INET")
}

fn conntrack(options: &Options, release: &str) -> Finding {
    const TOPIC: &str = "connection tracking";
    if has_module(options, release, "nf_conntrack") || has_symbol(options, "nf_conntrack_in") {
        return Finding::ok(TOPIC, "the kernel has it");
    }
    Finding::degraded(TOPIC, "the kernel has no connection tracking, or hides its symbols")
        .so("pods with a network of their own do not start; hostNetwork: true works")
        .remedy("modprobe nf_conntrack, or boot a kernel with CONFIG_NF_CONNTRACK and CONFIG_NF_NAT")
}

/// A part of the kernel: what it is called, its module, and a function of it.
struct Part(&'static str, &'static str, &'static str);

/// The parts that the kernel does not have, in words.
fn lacking(options: &Options, release: &str, parts: &[Part]) -> String {
    let lacks = |part: &&Part| !has_module(options, release, part.1) && !has_symbol(options, part.2);
    parts.iter().filter(lacks).map(|part| part.0).collect::<Vec<_>>().join(" and ")
}

fn bridges(options: &Options, release: &str) -> Finding {
    const TOPIC: &str = "bridges";
    // The family is a part of nf_tables, which says nothing of it before it is loaded; this module is there with it.
    let family = Part("nf_tables for the family bridge", "nft_meta_bridge", "nft_do_chain_bridge");
    let lacking = lacking(options, release, &[Part("bridges", "bridge", "br_add_if"), family]);
    if lacking.is_empty() {
        return Finding::ok(TOPIC, "the kernel has them, and nf_tables for them");
    }
    Finding::degraded(TOPIC, format!("the kernel has no {lacking}, or hides its symbols"))
        .so("pods in Networks of the type bridge do not start; those of the type ptp do")
        .remedy("modprobe bridge, or boot a kernel with CONFIG_BRIDGE and CONFIG_NF_TABLES_BRIDGE")
}

fn bandwidth(options: &Options, release: &str) -> Finding {
    const TOPIC: &str = "bandwidth";
    let parts = [Part("token buckets (tbf)", "sch_tbf", "tbf_init"), Part("ifb", "ifb", "ifb_setup")];
    let lacking = lacking(options, release, &parts);
    if lacking.is_empty() {
        return Finding::ok(TOPIC, "the kernel has tbf and ifb");
    }
    Finding::degraded(TOPIC, format!("the kernel has no {lacking}, or hides its symbols"))
        .so("pods with kubernetes.io/ingress-bandwidth or kubernetes.io/egress-bandwidth do not start")
        .remedy("modprobe sch_tbf ifb, or boot a kernel with CONFIG_NET_SCH_TBF and CONFIG_IFB")
}

fn ipv6(options: &Options) -> Finding {
    const TOPIC: &str = "IPv6";
    let so = "pods have IPv4 addresses only";
    if options.proc("net/if_inet6").is_none() {
        return Finding::degraded(TOPIC, "the kernel has no IPv6").so(so);
    }
    for which in ["all", "default"] {
        if options.proc(&format!("sys/net/ipv6/conf/{which}/disable_ipv6")).as_deref() == Some("1") {
            return Finding::degraded(TOPIC, format!("net.ipv6.conf.{which}.disable_ipv6 is 1"))
                .so(so)
                .remedy(format!("sysctl -w net.ipv6.conf.{which}.disable_ipv6=0"));
        }
    }
    Finding::ok(TOPIC, "available")
}

fn forwarding(options: &Options) -> Finding {
    const TOPIC: &str = super::FORWARDING;
    let so = "pods with a network of their own do not start";
    match options.proc("sys/net/ipv4/ip_forward").as_deref() {
        Some("1") => Finding::ok(TOPIC, "net.ipv4.ip_forward is 1"),
        Some(value) if is_writable(options, "sys/net/ipv4/ip_forward") => {
            let what = format!("net.ipv4.ip_forward is {value}: the first pod sets it, and gc --all restores it");
            Finding::ok(TOPIC, what)
        }
        Some(value) => Finding::degraded(TOPIC, format!("net.ipv4.ip_forward is {value}, and /proc/sys is read-only"))
            .so(so)
            .remedy("sysctl -w net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1 on the host"),
        None => Finding::degraded(TOPIC, "net.ipv4.ip_forward cannot be read").so(so).remedy("mount procfs on /proc"),
    }
}

/// Whether the file system lets it be written: for root nothing else says no.
fn is_writable(options: &Options, path: &str) -> bool {
    let flags = rustix::fs::statvfs(options.proc_root.join(path)).map(|it| it.f_flag);
    flags.is_ok_and(|it| !it.contains(rustix::fs::StatVfsMountFlags::RDONLY))
}

/// Other firewalls that drop what is forwarded unless they know it.
pub(super) fn foreign_rules(chains: Vec<String>) -> Option<Finding> {
    if chains.is_empty() {
        return None;
    }
    let what = format!("the policy is drop in {}", chains.join(", "));
    let finding = Finding::degraded("other firewalls", what).so(
        "packets between pods, and between pods and other machines, are lost unless a rule there lets them through",
    );
    Some(finding.remedy(
        "let the pods' range through there, such as: iptables -I DOCKER-USER -d RANGE -j ACCEPT, and -s RANGE too",
    ))
}

/// What there is of CNI. Where it was not asked for nothing of it is started, and nothing is wrong with it.
pub(super) fn plugged(options: &Options) -> Vec<Finding> {
    const TOPIC: &str = "CNI";
    let Some(dir) = &options.cni.conf_dir else {
        let found = cni::survey(&options.cni_conf_dir, &options.cni, false).ok();
        let what = |it: cni::Survey| format!("not used without --cni-conf-dir: network {}", it.network);
        return found.into_iter().map(|it| Finding::ok(TOPIC, what(it))).collect();
    };
    let waits = "pods with a network of their own wait (NetworkPluginNotReady); hostNetwork: true works";
    let survey = match cni::survey(dir, &options.cni, true) {
        Ok(survey) => survey,
        Err(why) => {
            let remedy =
                "put a configuration list there (*.conflist), or leave --cni-conf-dir out for Coracle's own network";
            return vec![Finding::degraded(TOPIC, why).so(waits).remedy(remedy)];
        }
    };
    let unusable = |(file, why): &(PathBuf, String)| {
        Finding::degraded(TOPIC, format!("{} is unusable: {why}", file.display())).so("the next one is used")
    };
    let mut findings: Vec<_> = survey.skipped.iter().map(unusable).collect();
    findings.push(Finding::ok(TOPIC, format!("network {}", survey.network)));
    findings.extend(survey.troubles.into_iter().map(|it| Finding::degraded(TOPIC, it).so(waits)));
    findings
}

/// Whether addresses for pods can be found.
pub(super) fn range(found: Result<String, String>) -> Finding {
    const TOPIC: &str = "pod range";
    match found {
        Ok(ranges) => Finding::ok(TOPIC, ranges),
        Err(why) => Finding::degraded(TOPIC, why)
            .so("pods with a network of their own do not start without --pod-cidr; hostNetwork: true works")
            .remedy("choose a range that nothing on this host uses, and name it with --pod-cidr"),
    }
}
