//! Elements that a table has and should not have, and those that it lacks.
//!
//! What is the same is left alone: before Linux 6.18 a packet that looks an element up while a batch that makes it anew comes
//! into force may find neither the old one nor the new one.

use std::collections::HashMap;

use netlink_packet_netfilter::nftables::SetFlags;

use super::desired::Desired;
use super::error::Result;
use super::sets::{self, Element, SetName};
use super::socket::Socket;
use super::{message, unused};

/// What is to go, and what is to come then. Clients stay with their pods. A set with intervals is as it should be, or is
/// emptied and filled again: the kernel wants both ends of an interval together.
pub fn find(
    socket: &mut Socket,
    table: &str,
    desired: &Desired,
    wanted: Vec<Element>,
) -> Result<(Vec<Element>, Vec<Element>)> {
    let mut of_set: HashMap<SetName, Vec<Element>> = HashMap::new();
    for element in wanted {
        of_set.entry(element.set.clone()).or_default().push(element);
    }
    let there = unused::names_of_sets(socket, table)?;
    let (mut gone, mut come) = (Vec::new(), Vec::new());
    for set in sets::all(desired).into_iter().filter(|set| !sets::STICKY.contains(&&*set.name)) {
        let mut new = of_set.remove(&set.name).unwrap_or_default();
        let mut old = if there.contains(&*set.name) { list(socket, table, &set.name)? } else { Vec::new() };
        old.sort_unstable();
        new.sort_unstable();
        new.dedup();
        if old == new {
            continue;
        }
        if !set.flags.contains(SetFlags::Interval) {
            let both = |it: &Element, other: &[Element]| other.binary_search(it).is_ok();
            let kept: Vec<Element> = old.iter().filter(|it| both(it, &new)).cloned().collect();
            old.retain(|it| !both(it, &kept));
            new.retain(|it| !both(it, &kept));
        }
        gone.extend(old);
        come.extend(new);
    }
    Ok((gone, come))
}

fn list(socket: &mut Socket, table: &str, set: &SetName) -> Result<Vec<Element>> {
    let mut elements = Vec::new();
    socket.dump_raw(&message::elements(table, set), |message| elements.extend(message::read_elements(set, message)))?;
    Ok(elements)
}
