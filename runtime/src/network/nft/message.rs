//! Changes to a table, as messages.

use netlink_packet_core::{DefaultNla, NLM_F_APPEND, NLM_F_CREATE};
use netlink_packet_netfilter::NetfilterProtoFamily;
use netlink_packet_netfilter::nftables::{
    ChainAttribute, ChainMessage, DataAttribute, Hook, InetHookNumber, ListAttribute, NfTablesMessage, RuleAttribute,
    RuleMessage, SetAttribute, SetDescription, SetElementAttribute, SetElementFlags, SetElementList, SetElementMessage,
    SetMessage, TableAttribute, TableFlags, TableMessage, Verdict,
};

use super::expression::Rule;
use super::expression::verdict;
use super::sets::{Data, Element, Set, SetName, Target};
use super::socket::{Change, Raw, children};

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

/// `add table` with `flags owner,persist`: nobody else changes it, and it stays when its owner ends. One that has stayed is
/// taken over.
pub fn add_owned_table(table: &str) -> Change {
    let flags = TableFlags::Owner | TableFlags::Persisent;
    let attributes = vec![TableAttribute::Name(table.to_owned()), TableAttribute::Flags(flags)];
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

/// `flush chain`: it has no rule then.
pub fn flush_chain(table: &str, chain: &str) -> Change {
    let attributes = vec![RuleAttribute::Table(table.to_owned()), RuleAttribute::Chain(chain.to_owned())];
    change(format!("flush chain inet {table} {chain}"), 0, NfTablesMessage::DeleteRule(RuleMessage { attributes }))
}

/// `list set` or `list map`.
pub fn elements(table: &str, set: &str) -> Change {
    let attributes = vec![SetElementList::Table(table.to_owned()), SetElementList::Set(set.to_owned())];
    change(format!("list set inet {table} {set}"), 0, NfTablesMessage::GetSetElement(SetElementMessage { attributes }))
}

/// `list tables`.
pub fn tables() -> Change {
    change("list the tables".to_owned(), 0, NfTablesMessage::GetTable(TableMessage { attributes: Vec::new() }))
}

/// `list chains` of a table.
pub fn chains(table: &str) -> Change {
    let attributes = vec![ChainAttribute::Table(table.to_owned())];
    change(format!("list the chains of {table}"), 0, NfTablesMessage::GetChain(ChainMessage { attributes }))
}

/// `list sets` of a table, its maps among them.
pub fn sets(table: &str) -> Change {
    let attributes = vec![SetAttribute::Table(table.to_owned())];
    change(format!("list the sets of {table}"), 0, NfTablesMessage::GetSet(SetMessage { attributes }))
}

/// `delete chain`.
pub fn delete_chain(table: &str, name: &str) -> Change {
    let attributes = vec![ChainAttribute::Table(table.to_owned()), ChainAttribute::Name(name.to_owned())];
    change(format!("delete chain inet {table} {name}"), 0, NfTablesMessage::DeleteChain(ChainMessage { attributes }))
}

/// `delete set` or `delete map`.
pub fn delete_set(table: &str, name: &str) -> Change {
    let attributes = vec![SetAttribute::Table(table.to_owned()), SetAttribute::Name(name.to_owned())];
    change(format!("delete set inet {table} {name}"), 0, NfTablesMessage::DeleteSet(SetMessage { attributes }))
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
        SetAttribute::Name(set.name.to_string()),
        SetAttribute::Flags(set.flags),
        SetAttribute::KeyType(set.key_type),
        SetAttribute::KeyLen(set.key_length),
        SetAttribute::Id(id),
    ];
    if set.host_order {
        attributes.push(SetAttribute::UserData(host_byte_order()));
    }
    if !set.fields.is_empty() {
        attributes.push(SetAttribute::Description(vec![SetDescription::Concat(fields(&set.fields))]));
    }
    if set.size > 0 {
        attributes.push(SetAttribute::Description(vec![SetDescription::Size(set.size)]));
    }
    if set.counted {
        attributes.push(SetAttribute::ListExpressions(Rule::new().count().into_expressions()));
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

/// The lengths of the parts of a key.
fn fields(lengths: &[u32]) -> Vec<DefaultNla> {
    const NFTA_LIST_ELEM: u16 = 1;
    const NFTA_SET_FIELD_LEN: u16 = 1;
    const NESTED: u16 = libc::NLA_F_NESTED as u16;
    let field = |length: &u32| {
        let [a, b, c, d] = length.to_be_bytes();
        let [low, high] = 8u16.to_ne_bytes();
        let [kind_low, kind_high] = NFTA_SET_FIELD_LEN.to_ne_bytes();
        DefaultNla::new(NFTA_LIST_ELEM | NESTED, vec![low, high, kind_low, kind_high, a, b, c, d])
    };
    lengths.iter().map(field).collect()
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
    let mut sets: Vec<&SetName> = Vec::new();
    for element in elements {
        if !sets.contains(&&element.set) {
            sets.push(&element.set);
        }
    }
    let mut changes = Vec::new();
    for set in sets {
        let mine: Vec<_> = elements.iter().filter(|it| it.set == *set).collect();
        for chunk in mine.chunks(CHUNK) {
            let list = chunk.iter().map(|it| ListAttribute::Element(attributes(it, data))).collect();
            let attributes = vec![
                SetElementList::Table(table.to_owned()),
                SetElementList::Set(set.to_string()),
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
    if let Some(last) = &element.last {
        const NFTA_DATA_VALUE: u16 = 1;
        attributes.push(SetElementAttribute::KeyEnd(vec![DefaultNla::new(NFTA_DATA_VALUE, last.clone())]));
    }
    match element.data.as_ref().filter(|_| with_data) {
        Some(Target::Goto(chain)) => attributes.push(SetElementAttribute::Data(verdict(Verdict::Goto, Some(chain)))),
        Some(Target::Value(bytes)) => {
            attributes.push(SetElementAttribute::Data(DataAttribute::Value(bytes.clone())));
        }
        None => {}
    }
    if element.end {
        attributes.push(SetElementAttribute::Flags(SetElementFlags::IntervalEnd));
    }
    attributes
}

/// The elements of a set that count, as the kernel lists them: each key with the packets it was found for. The library
/// reads such an element only in part.
pub fn counted(message: &Raw<'_>) -> Vec<(Vec<u8>, u64)> {
    listed(message).filter_map(count).collect()
}

/// The elements of a map: each key with what it leads to.
pub fn keys_and_data(message: &Raw<'_>) -> Vec<(Vec<u8>, Vec<u8>)> {
    let pair = |it| Some((value(it, NFTA_SET_ELEM_KEY)?, value(it, NFTA_SET_ELEM_DATA)?));
    listed(message).filter_map(pair).collect()
}

/// The elements that a message lists of a set, but for what they count.
pub fn read_elements(set: &SetName, message: &Raw<'_>) -> Vec<Element> {
    const NFTA_SET_ELEM_FLAGS: u16 = 3;
    const NFTA_SET_ELEM_KEY_END: u16 = 10;
    const NFT_SET_ELEM_INTERVAL_END: u32 = 1;
    let read = |it| {
        let flags =
            within(it, NFTA_SET_ELEM_FLAGS).and_then(|it| it.first_chunk()).map_or(0, |it| u32::from_be_bytes(*it));
        Some(Element {
            set: set.clone(),
            key: value(it, NFTA_SET_ELEM_KEY)?,
            last: value(it, NFTA_SET_ELEM_KEY_END),
            data: goto(it).or_else(|| value(it, NFTA_SET_ELEM_DATA).map(Target::Value)),
            end: flags & NFT_SET_ELEM_INTERVAL_END != 0,
        })
    };
    listed(message).filter_map(read).collect()
}

/// The chain that an element of a verdict map leads to.
fn goto(element: &[u8]) -> Option<Target> {
    const NFTA_DATA_VERDICT: u16 = 2;
    const NFTA_VERDICT_CODE: u16 = 1;
    const NFTA_VERDICT_CHAIN: u16 = 2;
    const NFT_GOTO: i32 = -4;
    let verdict = within(within(element, NFTA_SET_ELEM_DATA)?, NFTA_DATA_VERDICT)?;
    let code = within(verdict, NFTA_VERDICT_CODE)?.first_chunk()?;
    let chain = within(verdict, NFTA_VERDICT_CHAIN)?;
    let chain = std::str::from_utf8(chain.strip_suffix(&[0]).unwrap_or(chain)).ok()?;
    (i32::from_be_bytes(*code) == NFT_GOTO).then(|| Target::Goto(chain.to_owned().into()))
}

const NFTA_SET_ELEM_KEY: u16 = 1;
const NFTA_SET_ELEM_DATA: u16 = 2;

/// The elements that a message lists.
fn listed<'a>(message: &'a Raw<'_>) -> impl Iterator<Item = &'a [u8]> {
    const NFTA_SET_ELEM_LIST_ELEMENTS: u16 = 3;
    let lists = message.attributes().filter(|(kind, _)| *kind == NFTA_SET_ELEM_LIST_ELEMENTS);
    lists.flat_map(|(_, list)| children(list)).map(|(_, it)| it)
}

fn within(data: &[u8], wanted: u16) -> Option<&[u8]> {
    children(data).find(|(kind, _)| *kind == wanted).map(|(_, value)| value)
}

fn value(element: &[u8], part: u16) -> Option<Vec<u8>> {
    const NFTA_DATA_VALUE: u16 = 1;
    Some(within(within(element, part)?, NFTA_DATA_VALUE)?.to_vec())
}

fn count(element: &[u8]) -> Option<(Vec<u8>, u64)> {
    const NFTA_SET_ELEM_EXPR: u16 = 7;
    const NFTA_SET_ELEM_EXPRESSIONS: u16 = 11;
    const NFTA_LIST_ELEM: u16 = 1;
    const NFTA_EXPR_DATA: u16 = 2;
    const NFTA_COUNTER_PACKETS: u16 = 2;
    let key = value(element, NFTA_SET_ELEM_KEY)?;
    let several = || within(within(element, NFTA_SET_ELEM_EXPRESSIONS)?, NFTA_LIST_ELEM);
    let counter = within(element, NFTA_SET_ELEM_EXPR).or_else(several)?;
    let packets = within(within(counter, NFTA_EXPR_DATA)?, NFTA_COUNTER_PACKETS)?.first_chunk()?;
    Some((key, u64::from_be_bytes(*packets)))
}
