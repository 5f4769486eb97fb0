//! Names, labels, taints and addresses of a node, as a command line has them.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::Taint;

/// The longest name of a node.
const NAME: usize = 253;

/// The longest part of a label.
const LABEL: usize = 63;

/// Prefixes of labels that a node may give itself, of those that are Kubernetes' own; as the API server admits them.
const OWN_PREFIXES: [&str; 2] = ["kubelet.kubernetes.io", "node.kubernetes.io"];

/// Kubernetes' labels that a node may give itself.
const OWN_LABELS: [&str; 12] = [
    "beta.kubernetes.io/arch",
    "beta.kubernetes.io/instance-type",
    "beta.kubernetes.io/os",
    "failure-domain.beta.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "kubernetes.io/arch",
    "kubernetes.io/hostname",
    "kubernetes.io/os",
    "node.kubernetes.io/instance-type",
    "topology.kubernetes.io/region",
    "topology.kubernetes.io/zone",
    "node.kubernetes.io/windows-build",
];

/// A node's name.
pub(super) fn node_name(text: &str) -> Result<String, String> {
    let name = text.trim().to_lowercase();
    let label = |label: &str| {
        let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        label.bytes().all(|byte| inner(byte) || byte == b'-')
            && label.bytes().next().is_some_and(inner)
            && label.bytes().last().is_some_and(inner)
    };
    match name.len() <= NAME && name.split('.').all(label) {
        true => Ok(name),
        false => Err("write it as worker-1: lower case letters, digits, `-` and `.`".to_owned()),
    }
}

/// A label: KEY=VALUE.
pub(super) fn label(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("write it as KEY=VALUE")?;
    let (key, value) = (key.trim(), value.trim());
    if !is_key(key) || !is_value(value) {
        return Err("write it as KEY=VALUE: letters, digits, `-`, `_` and `.`".to_owned());
    }
    if !may_give_itself(key) {
        return Err(format!(
            "a node may not give itself a label below kubernetes.io or k8s.io but {}, or one below kubelet.kubernetes.io \
             or node.kubernetes.io",
            OWN_LABELS.join(", ")
        ));
    }
    Ok((key.to_owned(), value.to_owned()))
}

fn may_give_itself(key: &str) -> bool {
    let Some((prefix, _)) = key.split_once('/') else { return true };
    let below = |domain: &str| prefix == domain || prefix.strip_suffix(domain).is_some_and(|it| it.ends_with('.'));
    if !below("kubernetes.io") && !below("k8s.io") {
        return true;
    }
    OWN_LABELS.contains(&key) || OWN_PREFIXES.into_iter().any(below)
}

fn is_key(key: &str) -> bool {
    let (prefix, name) = match key.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, key),
    };
    prefix.is_none_or(|it| node_name(it).is_ok_and(|same| same == it)) && !name.is_empty() && is_value(name)
}

fn is_value(value: &str) -> bool {
    let ends = |byte: Option<u8>| byte.is_none_or(|byte| byte.is_ascii_alphanumeric());
    value.len() <= LABEL
        && value.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
        && ends(value.bytes().next())
        && ends(value.bytes().last())
}

/// A taint: KEY=VALUE:EFFECT or KEY:EFFECT.
pub(super) fn taint(text: &str) -> Result<Taint, String> {
    let wrong = "write it as KEY=VALUE:EFFECT or KEY:EFFECT; effects are NoSchedule, PreferNoSchedule and NoExecute";
    let (what, effect) = text.trim().rsplit_once(':').ok_or(wrong)?;
    let (key, value) = what.split_once('=').unwrap_or((what, ""));
    let known = ["NoSchedule", "PreferNoSchedule", "NoExecute"].contains(&effect);
    if !known || !is_key(key) || !is_value(value) {
        return Err(wrong.to_owned());
    }
    let value = Some(value.to_owned()).filter(|it| !it.is_empty());
    Ok(Taint { key: key.to_owned(), value, effect: effect.to_owned(), time_added: None })
}

/// A node's addresses where some are given: `0.0.0.0` and `::` stand for the one of their family that was found.
pub(super) fn addresses(given: &[IpAddr], found: &[String]) -> Vec<String> {
    let found = |v4: bool| found.iter().filter_map(|it| it.parse::<IpAddr>().ok()).find(|it| it.is_ipv4() == v4);
    let one = |ip: &IpAddr| if ip.is_unspecified() { found(ip.is_ipv4()) } else { Some(*ip) };
    given.iter().filter_map(one).map(|ip| ip.to_string()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_nodes() {
        for (text, name) in [("Worker-1.lan", Some("worker-1.lan")), ("a", Some("a")), ("-a", None), ("a..b", None)] {
            assert_eq!(node_name(text).ok().as_deref(), name, "{text}");
        }
    }

    #[test]
    fn a_node_gives_itself_only_labels_that_it_may() {
        let allowed = ["disk=ssd", "example.com/rack=a.1", "node.kubernetes.io/x=", "kubernetes.io/os=linux"];
        allowed.into_iter().for_each(|text| assert!(label(text).is_ok(), "{text}"));
        let refused = [
            "disk",
            "=x",
            "a=b/c",
            "a=-b",
            "node-role.kubernetes.io/control-plane=",
            "x.k8s.io/y=z",
            "kubernetes.io/x=y",
        ];
        refused.into_iter().for_each(|text| assert!(label(text).is_err(), "{text}"));
    }

    #[test]
    fn taints_have_a_key_and_an_effect() {
        let shown = |text: &str| taint(text).ok().map(|it| (it.key, it.value.unwrap_or_default(), it.effect));
        let expected = |key: &str, value: &str| Some((key.to_owned(), value.to_owned(), "NoSchedule".to_owned()));
        assert_eq!(shown("a=b:NoSchedule"), expected("a", "b"));
        assert_eq!(shown("example.com/a:NoSchedule"), expected("example.com/a", ""));
        for text in ["a=b", "a:No", ":NoSchedule", "a=b:"] {
            assert_eq!(shown(text), None, "{text}");
        }
    }

    #[test]
    fn an_address_that_is_none_is_the_one_that_was_found() {
        let found = ["192.0.2.7".to_owned(), "2001:db8::7".to_owned()];
        let of = |given: &[&str]| {
            let given: Vec<IpAddr> = given.iter().filter_map(|it| it.parse().ok()).collect();
            addresses(&given, &found)
        };
        assert_eq!(of(&["::"]), ["2001:db8::7"]);
        assert_eq!(of(&["198.51.100.1", "::"]), ["198.51.100.1", "2001:db8::7"]);
    }
}
