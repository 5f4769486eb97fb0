//! Changes to a table, as messages.

use netlink_packet_core::{NLM_F_APPEND, NLM_F_CREATE};
use netlink_packet_netfilter::NetfilterProtoFamily;
use netlink_packet_netfilter::nftables::{
    ChainAttribute, ChainMessage, DataAttribute, Hook, InetHookNumber, ListAttribute, NfTablesMessage, RuleAttribute,
    RuleMessage, SetAttribute, SetElementAttribute, SetElementFlags, SetElementList, SetElementMessage, SetMessage,
    TableAttribute, TableMessage,
};

use super::expression::Rule;
use super::sets::{Data, Element, INTERFACE_KEY, Set};
use super::socket::Change;

/// Elements of one message: an attribute's length is a 16-bit number, and an element takes up to 100 bytes.
const CHUNK: usize = 400;

/// What `nft list` says of the table.
const COMMENT: &str = "made by coracle, which restores it; change nothing here";

fn change(object: String, flags: u16, message: NfTablesMessage) -> Change {
    Change { object, flags, family: NetfilterProtoFamily::Inet, message: message.into() }
}

/// `add table`.
pub fn add_table(table: &str) -> Change {
    let name = TableAttribute::Name(table.to_owned());
    let attributes = vec![name, TableAttribute::UserData(comment())];
    change(format!("add table inet {table}"), NLM_F_CREATE, NfTablesMessage::NewTable(TableMessage { attributes }))
}

/// The comment in libnftnl's form: a kind, a length, a C string.
fn comment() -> Vec<u8> {
    const NFTNL_UDATA_TABLE_COMMENT: u8 = 0;
    let mut data = vec![NFTNL_UDATA_TABLE_COMMENT, COMMENT.len() as u8 + 1];
    data.extend(COMMENT.bytes().chain([0]));
    data
}

/// `delete table`.
pub fn delete_table(table: &str) -> Change {
    let attributes = vec![TableAttribute::Name(table.to_owned())];
    change(format!("delete table inet {table}"), 0, NfTablesMessage::DeleteTable(TableMessage { attributes }))
}

/// `flush table`: no chain has a rule then.
pub fn flush_rules(table: &str) -> Change {
    let attributes = vec![RuleAttribute::Table(table.to_owned())];
    change(format!("flush table inet {table}"), 0, NfTablesMessage::DeleteRule(RuleMessage { attributes }))
}

/// `flush set` or `flush map`.
pub fn flush_set(table: &str, set: &str) -> Change {
    let attributes = vec![SetElementList::Table(table.to_owned()), SetElementList::Set(set.to_owned())];
    change(
        format!("flush set inet {table} {set}"),
        0,
        NfTablesMessage::DeleteSetElement(SetElementMessage { attributes }),
    )
}

/// `list tables`.
pub fn tables() -> Change {
    change("list the tables".to_owned(), 0, NfTablesMessage::GetTable(TableMessage { attributes: Vec::new() }))
}

/// Where a chain hooks into the network: its type, hook and priority.
pub type Base = (&'static str, InetHookNumber, i32);

/// `add chain`.
pub fn add_chain(table: &str, name: &str, base: Option<Base>) -> Change {
    let mut attributes = vec![ChainAttribute::Table(table.to_owned()), ChainAttribute::Name(name.to_owned())];
    if let Some((kind, hook, priority)) = base {
        attributes.push(ChainAttribute::Hook(vec![Hook::Number(hook.into()), Hook::Priority(priority as u32)]));
        attributes.push(ChainAttribute::Type(kind.to_owned()));
    }
    let message = NfTablesMessage::NewChain(ChainMessage { attributes });
    change(format!("add chain inet {table} {name}"), NLM_F_CREATE, message)
}

/// `add rule`, at the chain's end. `number` is for errors.
pub fn add_rule(table: &str, chain: &str, number: usize, rule: Rule) -> Change {
    let attributes = vec![
        RuleAttribute::Table(table.to_owned()),
        RuleAttribute::Chain(chain.to_owned()),
        RuleAttribute::Expressions(rule.into_expressions()),
    ];
    let message = NfTablesMessage::NewRule(RuleMessage { attributes });
    change(format!("add rule {number} to chain inet {table} {chain}"), NLM_F_CREATE | NLM_F_APPEND, message)
}

/// `add set` or `add map`. `id` is of the batch.
pub fn add_set(table: &str, id: u32, set: &Set) -> Change {
    /// linux/netfilter/nf_tables.h.
    const NFT_DATA_VERDICT: u32 = 0xffff_ff00;
    let mut attributes = vec![
        SetAttribute::Table(table.to_owned()),
        SetAttribute::Name(set.name.to_owned()),
        SetAttribute::Flags(set.flags),
        SetAttribute::KeyType(set.key_type),
        SetAttribute::KeyLen(set.key_length),
        SetAttribute::Id(id),
    ];
    if set.key_type == INTERFACE_KEY {
        attributes.push(SetAttribute::UserData(host_byte_order()));
    }
    match set.data {
        Data::Nothing => {}
        Data::Verdict => attributes.push(SetAttribute::DataType(NFT_DATA_VERDICT)),
        Data::Value { kind, length } => {
            attributes.extend([SetAttribute::DataType(kind), SetAttribute::DataLen(length)]);
        }
    }
    let message = NfTablesMessage::NewSet(SetMessage { attributes });
    change(format!("add set inet {table} {}", set.name), NLM_F_CREATE, message)
}

/// Without it `nft` shows names of interfaces as empty, in libnftnl's form: a kind, a length, a number.
fn host_byte_order() -> Vec<u8> {
    const NFTNL_UDATA_SET_KEYBYTEORDER: u8 = 0;
    const BYTEORDER_HOST_ENDIAN: u32 = 1;
    let mut data = vec![NFTNL_UDATA_SET_KEYBYTEORDER, 4];
    data.extend(BYTEORDER_HOST_ENDIAN.to_ne_bytes());
    data
}

/// `add element`. An element that is there stays; one with the same key and other data is an error.
pub fn add_elements(table: &str, elements: &[&Element]) -> Vec<Change> {
    messages(table, elements, "add elements to", NLM_F_CREATE, true, NfTablesMessage::NewSetElement)
}

/// `delete element`.
pub fn delete_elements(table: &str, elements: &[&Element]) -> Vec<Change> {
    messages(table, elements, "delete elements of", 0, false, NfTablesMessage::DeleteSetElement)
}

/// One message a set, or a few: the elements in the order in which they came.
fn messages(
    table: &str,
    elements: &[&Element],
    verb: &str,
    flags: u16,
    data: bool,
    kind: fn(SetElementMessage) -> NfTablesMessage,
) -> Vec<Change> {
    let mut sets: Vec<&'static str> = Vec::new();
    for element in elements {
        if !sets.contains(&element.set) {
            sets.push(element.set);
        }
    }
    let mut changes = Vec::new();
    for set in sets {
        let mine: Vec<_> = elements.iter().filter(|it| it.set == set).collect();
        for chunk in mine.chunks(CHUNK) {
            let list = chunk.iter().map(|it| ListAttribute::Element(attributes(it, data))).collect();
            let attributes = vec![
                SetElementList::Table(table.to_owned()),
                SetElementList::Set(set.to_owned()),
                SetElementList::Elements(list),
            ];
            changes.push(change(
                format!("{verb} set inet {table} {set}"),
                flags,
                kind(SetElementMessage { attributes }),
            ));
        }
    }
    changes
}

fn attributes(element: &Element, with_data: bool) -> Vec<SetElementAttribute> {
    let mut attributes = vec![SetElementAttribute::Key(DataAttribute::Value(element.key.clone()))];
    if let Some(data) = element.data.as_ref().filter(|_| with_data) {
        attributes.push(SetElementAttribute::Data(data.clone()));
    }
    if element.end {
        attributes.push(SetElementAttribute::Flags(SetElementFlags::IntervalEnd));
    }
    attributes
}
