//! Chains and sets of networks, and of choices of services, that nothing needs any more.

use std::collections::HashSet;

use netlink_packet_netfilter::NetfilterMessageInner;
use netlink_packet_netfilter::nftables::{ChainAttribute, NfTablesMessage, SetAttribute};

use super::desired::Desired;
use super::error::Result;
use super::socket::{Change, Socket};
use super::{message, rules, sets};

/// What takes them away, once no rule and no element leads to them.
pub fn find(socket: &mut Socket, table: &str, desired: &Desired) -> Result<Vec<Change>> {
    let used: HashSet<_> = rules::all(desired).into_iter().map(|it| it.name).collect();
    let mut changes = Vec::new();
    socket.dump(&message::chains(table), |message| {
        let NetfilterMessageInner::NfTables(NfTablesMessage::NewChain(chain)) = message else { return };
        let name =
            chain.attributes.iter().find_map(|it| if let ChainAttribute::Name(it) = it { Some(it) } else { None });
        let unused = name.filter(|it| !used.contains(it.as_str()));
        changes.extend(unused.map(|it| message::delete_chain(table, it)));
    })?;
    let used: HashSet<_> = sets::all(desired).into_iter().map(|it| it.name).collect();
    let unused = names_of_sets(socket, table)?.into_iter().filter(|it| !used.contains(it.as_str()));
    changes.extend(unused.map(|it| message::delete_set(table, &it)));
    Ok(changes)
}

/// The sets and maps that a table has.
pub fn names_of_sets(socket: &mut Socket, table: &str) -> Result<HashSet<String>> {
    let mut names = HashSet::new();
    socket.dump(&message::sets(table), |message| {
        let NetfilterMessageInner::NfTables(NfTablesMessage::NewSet(set)) = message else { return };
        let mut attributes = set.attributes.into_iter();
        names.extend(attributes.find_map(|it| if let SetAttribute::Name(it) = it { Some(it) } else { None }));
    })?;
    Ok(names)
}
