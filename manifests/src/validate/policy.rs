//! NetworkPolicies.

use super::{Context, selector, service};
use crate::path::Path;
use crate::suggest::{clip, nearest};
use ipnet::IpNet;
use k8s_openapi::api::networking::v1::{IPBlock, NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

const TYPES: [&str; 2] = ["Ingress", "Egress"];

pub(super) fn validate(context: &mut Context<'_, '_>, path: &Path, policy: &NetworkPolicy) {
    let path = path.field("spec");
    // As to an API server, one that says nothing is one that chooses every pod and lets nobody in.
    let Some(spec) = &policy.spec else { return };
    if let Some(pods) = &spec.pod_selector {
        selector::validate(context, &path.field("podSelector"), pods);
    }
    for (index, rule) in spec.ingress.iter().flatten().enumerate() {
        let path = path.field("ingress").index(index);
        ports(context, &path.field("ports"), rule.ports.as_deref());
        peers(context, &path.field("from"), rule.from.as_deref());
    }
    for (index, rule) in spec.egress.iter().flatten().enumerate() {
        let path = path.field("egress").index(index);
        ports(context, &path.field("ports"), rule.ports.as_deref());
        peers(context, &path.field("to"), rule.to.as_deref());
    }
    let types = spec.policy_types.as_deref().unwrap_or_default();
    if types.len() > TYPES.len() {
        context.error(&path.field("policyTypes"), "there are two types: `Ingress` and `Egress`");
        return;
    }
    for (index, name) in types.iter().enumerate().filter(|(_, name)| !TYPES.contains(&name.as_str())) {
        let help = nearest(name, TYPES).map_or_else(|| TYPES.join(", "), |near| format!("did you mean `{near}`?"));
        let message = format!("`{}` is not a type of policy", clip(name));
        context.error_help(&path.field("policyTypes").index(index), message, help);
    }
    for (name, there) in [("Ingress", spec.ingress.is_some()), ("Egress", spec.egress.is_some())] {
        if there && !types.is_empty() && !types.iter().any(|it| it == name) {
            let at = path.field(&name.to_lowercase());
            let message = format!("`{}` has no effect without `{name}` in `policyTypes`", name.to_lowercase());
            context.key_warning(&at, message, format!("add `{name}` to `policyTypes`, or remove this"));
        }
    }
}

fn ports(context: &mut Context<'_, '_>, path: &Path, ports: Option<&[NetworkPolicyPort]>) {
    for (index, NetworkPolicyPort { port, end_port, .. }) in ports.unwrap_or_default().iter().enumerate() {
        let path = path.index(index);
        let end = path.field("endPort");
        match (port, end_port) {
            (Some(IntOrString::Int(first)), last) => {
                context.within(&path.field("port"), Some(i64::from(*first)), 1, 65535);
                context.within(&end, last.map(i64::from), 1, 65535);
                if let Some(last) = last.filter(|last| last < first && (1..=65535).contains(last)) {
                    context.error(&end, format!("`{last}` is less than `port`, which is {first}"));
                }
            }
            (Some(IntOrString::String(name)), last) => {
                service::port_name(context, &path.field("port"), name);
                if last.is_some() {
                    context.key_error(&end, "a range begins with a number, and `port` is a name", None);
                }
            }
            (None, Some(_)) => context.key_error(&end, "a range begins with a `port`", None),
            (None, None) => {}
        }
    }
}

fn peers(context: &mut Context<'_, '_>, path: &Path, peers: Option<&[NetworkPolicyPeer]>) {
    for (index, peer) in peers.unwrap_or_default().iter().enumerate() {
        let path = path.index(index);
        let NetworkPolicyPeer { ip_block, namespace_selector, pod_selector } = peer;
        if let Some(pods) = pod_selector {
            selector::validate(context, &path.field("podSelector"), pods);
        }
        if let Some(namespaces) = namespace_selector {
            selector::of_namespaces(context, &path.field("namespaceSelector"), namespaces);
        }
        match ip_block {
            Some(_) if pod_selector.is_some() || namespace_selector.is_some() => {
                let help = "make two items of it".to_owned();
                context.key_error(&path.field("ipBlock"), "a peer is chosen by addresses or by selectors", Some(help));
            }
            Some(addresses) => block(context, &path.field("ipBlock"), addresses),
            None if pod_selector.is_none() && namespace_selector.is_none() => {
                let help =
                    "`podSelector`, `namespaceSelector` or `ipBlock`; `podSelector: {}` is every pod of the namespace";
                context.error_help(&path, "a peer that says nothing", help);
            }
            None => {}
        }
    }
}

fn block(context: &mut Context<'_, '_>, path: &Path, IPBlock { cidr, except }: &IPBlock) {
    let whole = range(context, &path.field("cidr"), cidr);
    for (index, text) in except.iter().flatten().enumerate() {
        let at = path.field("except").index(index);
        let part = range(context, &at, text);
        let (Some(whole), Some(part)) = (whole, part) else { continue };
        if !whole.contains(&part) || whole.prefix_len() >= part.prefix_len() {
            context.error(&at, format!("`{part}` is not a part of `{whole}`"));
        }
    }
}

/// A range of addresses, as it has to be written.
fn range(context: &mut Context<'_, '_>, path: &Path, text: &str) -> Option<IpNet> {
    let Ok(range) = text.parse::<IpNet>() else {
        let help = match text.parse::<std::net::IpAddr>() {
            Ok(address) => format!("`{}`", IpNet::from(address)),
            Err(_) => "an address and a length such as `10.0.0.0/8` or `fd00::/8`".to_owned(),
        };
        context.error_help(path, format!("`{}` is not a range of addresses", clip(text)), help);
        return None;
    };
    if range.trunc() != range {
        let message = format!("`{range}` has bits beyond its length");
        context.error_help(path, message, format!("`{}`, or `{}`", range.trunc(), IpNet::from(range.addr())));
        return None;
    }
    Some(range)
}
