//! What other tables do to pods' packets.

use netlink_packet_netfilter::nftables::{ChainAttribute, ChainMessage, Hook, NfTablesMessage};
use netlink_packet_netfilter::{NetfilterMessageInner, NetfilterProtoFamily};

use super::error::Result;
use super::socket::{Change, Socket};

// linux/netfilter.h.
const NF_INET_FORWARD: u32 = 2;
const NF_DROP: u32 = 0;

/// Chains of others through which every forwarded packet goes and that drop what they have no rule for. A table of ours
/// cannot overrule them: what one chain drops is dropped.
pub fn dropping_forward_chains() -> Result<Vec<String>> {
    let mut socket = Socket::open()?;
    let mut found = Vec::new();
    let families =
        [(NetfilterProtoFamily::Inet, "inet"), (NetfilterProtoFamily::IPv4, "ip"), (NetfilterProtoFamily::IPv6, "ip6")];
    for (family, name) in families {
        let message = NfTablesMessage::GetChain(ChainMessage { attributes: Vec::new() }).into();
        let request = Change { object: "list the chains".to_owned(), flags: 0, family, message };
        socket.dump(&request, |message| {
            if let NetfilterMessageInner::NfTables(NfTablesMessage::NewChain(chain)) = message {
                found.extend(dropping(&chain).map(|it| format!("{name} {it}")));
            }
        })?;
    }
    Ok(found)
}

/// Table and name, if it is one.
fn dropping(chain: &ChainMessage) -> Option<String> {
    let (mut table, mut name, mut forward, mut drop) = ("", "", false, false);
    for attribute in &chain.attributes {
        match attribute {
            ChainAttribute::Table(it) => table = it,
            ChainAttribute::Name(it) => name = it,
            ChainAttribute::Policy(policy) => drop = *policy == NF_DROP,
            ChainAttribute::Hook(hook) => {
                forward = hook.iter().any(|it| matches!(it, Hook::Number(it) if u32::from(*it) == NF_INET_FORWARD));
            }
            _ => {}
        }
    }
    (forward && drop && !super::is_our_name(table)).then(|| format!("{table} {name}"))
}
