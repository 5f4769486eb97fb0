//! What the kernel has of pods' networks, and what the records say that it should have.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use e2e::Node;
use serde_json::Value;

use super::model::{self, DECLARED, NETWORKS, Pods};

/// The table of rules, as nftables' own tool shows it, without what differs between two that do the same: numbers, counts,
/// the order of elements.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    pub name: String,
    sets: BTreeMap<String, BTreeSet<String>>,
    /// The rules by chain.
    chains: BTreeMap<String, Vec<String>>,
}

pub struct Kernel<'n> {
    pub node: &'n Node,
    pub nft: PathBuf,
}

impl Kernel<'_> {
    fn run(&self, words: &[&str]) -> e2e::Finished {
        let mut command = Command::new(&self.nft);
        command.args(words);
        self.node.host().run(command)
    }

    fn list(&self, family: &str, name: &str) -> Option<Value> {
        serde_json::from_str(&self.run(&["-j", "list", "table", family, name]).stdout()).ok()
    }

    /// The table, and the one of bridges; none while there is none.
    pub fn table(&self) -> Option<Table> {
        let mut names = self.node.host().within(e2e::leaks::network::tables);
        names.retain(|it| !it.ends_with("-guard"));
        names.sort();
        // The bridge's table has the same name.
        names.dedup();
        let [name] = &names[..] else { return None };
        let mut table = Table { name: name.clone(), ..Table::default() };
        table.read("", &self.list("inet", name)?);
        self.list("bridge", name).iter().for_each(|listed| table.read("bridge ", listed));
        Some(table)
    }

    /// Takes the table away: who watches over it makes it anew, of what is recorded.
    pub fn delete(&self, table: &Table) {
        self.run(&["delete", "table", "inet", &table.name]).exits(0);
    }

    /// How the kernel, and what is recorded of addresses, differ from what these pods need.
    pub fn differences(&self, pods: &Pods, ips: &BTreeMap<usize, Vec<IpAddr>>) -> Vec<String> {
        let Some(table) = self.table() else {
            return if pods.is_empty() { Vec::new() } else { vec!["there is no table".to_owned()] };
        };
        let mut wrong = Vec::new();
        for (number, four) in [(4, true), (6, false)] {
            for (set, expected) in expected(pods, ips, four) {
                let found = table.sets.get(&format!("{set}{number}")).cloned().unwrap_or_default();
                wrong.extend(differ(&format!("the set {set}{number}"), &found, &expected));
            }
        }
        let markers = markers(self.node);
        let has: BTreeSet<String> = markers.iter().map(|it| it.0.clone()).collect();
        let declared = pods.keys().map(|it| format!("default/{}", model::name(*it))).collect();
        wrong.extend(differ("who has an address", &has, &declared));
        if has.len() != markers.len() {
            wrong.push(format!("a pod has two addresses: {markers:?}"));
        }
        let links: BTreeSet<String> = markers.into_iter().map(|it| it.1).collect();
        wrong.extend(differ("the links of pods", &self.node.host().within(interfaces), &links));
        wrong
    }
}

/// One line where two are not the same.
pub fn differ(what: &str, found: &BTreeSet<String>, expected: &BTreeSet<String>) -> Option<String> {
    let (more, less): (Vec<_>, Vec<_>) = (found.difference(expected).collect(), expected.difference(found).collect());
    (found != expected).then(|| format!("{what}: too much is {more:?}, missing is {less:?}"))
}

impl Table {
    fn read(&mut self, prefix: &str, listed: &Value) {
        for object in listed["nftables"].as_array().into_iter().flatten() {
            let (kind, object) = object.as_object().and_then(|it| it.iter().next()).expect("an object has a kind");
            let named = |key: &str| prefix.to_owned() + object[key].as_str().unwrap_or_default();
            match kind.as_str() {
                "set" | "map" => {
                    let elements = object["elem"].as_array().into_iter().flatten();
                    self.sets.insert(named("name"), elements.map(element).collect());
                }
                "chain" => drop(self.chains.entry(named("name")).or_default()),
                "rule" => {
                    let mut rule = object["expr"].clone();
                    without_counts(&mut rule);
                    self.chains.entry(named("chain")).or_default().push(rule.to_string());
                }
                _ => {}
            }
        }
    }

    /// How this one differs from another.
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let names = |table: &Self| table.sets.keys().chain(table.chains.keys()).cloned().collect();
        let mut wrong: Vec<String> = differ("sets and chains", &names(self), &names(other)).into_iter().collect();
        for (name, elements) in &self.sets {
            wrong.extend(other.sets.get(name).and_then(|it| differ(name, elements, it)));
        }
        for (name, rules) in &self.chains {
            let others = other.chains.get(name).filter(|it| *it != rules);
            wrong.extend(others.map(|it| format!("chain {name}: {rules:?} instead of {it:?}")));
        }
        wrong
    }
}

/// What sets of one family have to have.
fn expected(pods: &Pods, ips: &BTreeMap<usize, Vec<IpAddr>>, four: bool) -> Vec<(&'static str, BTreeSet<String>)> {
    let own = |number: &usize| ips[number].iter().filter(|ip| ip.is_ipv4() == four).map(IpAddr::to_string);
    let of_network = |network: usize| {
        pods.iter().filter(|it| it.1.network == network).flat_map(|it| own(it.0)).collect::<BTreeSet<_>>()
    };
    let all: BTreeSet<String> = pods.keys().flat_map(own).collect();
    let mut links = BTreeSet::new();
    for (from, to) in model::links(pods) {
        for (from, to) in own(&from).flat_map(|from| own(&to).map(move |to| (from.clone(), to))) {
            links.extend(["tcp", "udp"].map(|protocol| format!("{from} . {to} . {protocol} . {DECLARED}")));
        }
    }
    let mut sets = vec![
        ("selves", all.iter().map(|it| format!("{it} . {it}")).collect()),
        ("networks", all),
        ("open", of_network(0)),
        ("links", links.clone()),
        ("uses", links),
        ("isolated_in", BTreeSet::new()),
        ("isolated_out", BTreeSet::new()),
        ("services", BTreeSet::new()),
    ];
    assert_eq!(NETWORKS[2..], ["ring", "span"]);
    sets.extend([("net_ring.", of_network(2)), ("net_span.", of_network(3))]);
    sets
}

/// An element of a set, or the key of one of a map.
fn element(element: &Value) -> String {
    match element {
        Value::Array(pair) => pair.first().map(self::element).unwrap_or_default(),
        Value::Object(it) if it.contains_key("elem") => self::element(&it["elem"]["val"]),
        Value::Object(it) if it.contains_key("concat") => {
            it["concat"].as_array().into_iter().flatten().map(self::element).collect::<Vec<_>>().join(" . ")
        }
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn without_counts(value: &mut Value) {
    match value {
        Value::Object(object) => {
            object.retain(|key, _| key != "packets" && key != "bytes");
            object.values_mut().for_each(without_counts);
        }
        Value::Array(values) => values.iter_mut().for_each(without_counts),
        _ => {}
    }
}

/// Whose addresses are held, and by which links.
fn markers(node: &Node) -> Vec<(String, String)> {
    let entries = fs::read_dir(node.state_dir.join("network/addresses")).into_iter().flatten().flatten();
    let read = |path: &Path| serde_json::from_slice::<Value>(&fs::read(path).ok()?).ok();
    let held = entries.filter_map(|it| read(&it.path())).filter(|it| it["idle"].is_null());
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    held.map(|it| (text(&it["pod"]), text(&it["link"]))).collect()
}

/// The host's ends of pods' links: the interfaces of ours but bridges.
fn interfaces() -> BTreeSet<String> {
    let text = fs::read_to_string("/proc/thread-self/net/dev").unwrap_or_default();
    let names = text.lines().filter_map(|line| Some(line.split_once(':')?.0.trim().to_owned()));
    names.filter(|name| name.starts_with("cor") && !name.contains('-')).collect()
}
