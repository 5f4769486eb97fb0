//! `coracle get links`

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use cri_proto::node::{GetNetworkRequest, LinkState};
use jiff::Timestamp;
use manifests::annotations::Kind;
use runtime::Owner;
use serde_json::{Value, json};

use super::Args;
use crate::channel::Cri;
use crate::cli::Global;
use crate::engine::config::names::PodKey;
use crate::engine::record::{self, PodRecord};
use crate::local;
use crate::net::object::{Link, NOT_IN_FORCE, links_of};
use crate::net::{Inputs, Picture};
use crate::node::shown::is_shown;
use crate::printer::human::since;
use crate::printer::{Printer, Table};
use crate::privilege::require_root;
use crate::verbs::{Format, block_on};

/// Shows the links of pods, whoever's they are.
pub fn main(args: &Args, global: &Global) -> anyhow::Result<ExitCode> {
    require_root("asking for links")?;
    let (records, unreadable) = record::list_in_boot(&global.state_dir, &global.this_boot()?)?;
    for bad in unreadable {
        anstream::eprintln!("warning: {bad}");
    }
    let mut links = of_records(&records);
    links.retain(|link| args.all_namespaces || link.metadata.namespace.as_deref() == Some(&*args.namespace));
    let missing: Vec<&String> =
        args.names.iter().filter(|name| links.iter().all(|link| name_of(link) != **name)).collect();
    if !args.names.is_empty() {
        links.retain(|link| args.names.iter().any(|name| name_of(link) == name));
    }
    if !links.is_empty() {
        match block_on(ask(global)) {
            Ok(states) => links.iter_mut().for_each(|link| note(link, &states)),
            Err(error) => anstream::eprintln!("warning: connections cannot be counted: {error:#}"),
        }
    }
    show(args, &links)?;
    if let Some(name) = missing.first() {
        bail!("links \"{name}\" not found");
    }
    Ok(ExitCode::SUCCESS)
}

/// The links of the pods that have records.
fn of_records(records: &[PodRecord]) -> Vec<Link> {
    let name = |record: &PodRecord| {
        let key = PodKey::of(&record.pod);
        (key.namespace, key.name)
    };
    let all: Vec<_> = records
        .iter()
        .filter(|record| !is_shown(&record.pod))
        .map(|record| (&record.owner, name(record), Arc::new(record.pod.clone())))
        .collect();
    let owners: BTreeSet<&String> = all.iter().map(|(owner, ..)| *owner).collect();
    let mut links = BTreeMap::new();
    for owner in owners {
        let own = |it: &&(&String, _, _)| it.0 == owner;
        let pods = all.iter().filter(own).map(|(_, name, pod)| (name.clone(), pod.clone())).collect();
        // Of two pods with one name this owner's counts.
        let others = all.iter().filter(|it| !own(it)).chain(all.iter().filter(own));
        let seen = others.map(|(_, name, pod)| (name.clone(), pod.clone())).collect();
        links.extend(links_of(&Picture::of(Inputs { pods, seen, ..Inputs::default() })));
    }
    links.into_values().collect()
}

async fn ask(global: &Global) -> anyhow::Result<Vec<LinkState>> {
    let (_runtime, channel) = local::open(global, Owner::Agent, None)?;
    let answer = Cri::new(channel).node.get_network(GetNetworkRequest {}).await;
    let answer = answer.map_err(|status| anyhow::anyhow!("{}", status.message())).context("ask for the network")?;
    Ok(answer.into_inner().links)
}

/// Adds what the runtime says of a link.
fn note(link: &mut Link, states: &[LinkState]) {
    let to_service = link.spec.target.starts_with(Kind::Service.as_str());
    let state = link.find(states).cloned();
    let status = &mut link.status;
    status.connections = state.as_ref().map(|state| state.connections);
    match state {
        // Services are in no record: what the runtime knows of one is all there is.
        Some(state) if to_service => {
            let word = if state.connected { "Ready" } else { "NotReady" };
            (status.state, status.message) = (word.into(), String::new());
        }
        Some(_) => {}
        None if status.state != "Missing" => status.state = NOT_IN_FORCE.into(),
        None => {}
    }
}

fn name_of(link: &Link) -> &str {
    link.metadata.name.as_deref().unwrap_or_default()
}

fn show(args: &Args, links: &[Link]) -> anyhow::Result<()> {
    let mut printer = Printer::stdout();
    match args.output {
        None | Some(Format::Wide) if links.is_empty() && args.names.is_empty() => {
            let place = if args.all_namespaces { String::new() } else { format!(" in {} namespace", args.namespace) };
            anstream::eprintln!("No resources found{place}.");
        }
        None => printer.text(table(args, links, false).as_bytes())?,
        Some(Format::Wide) => printer.text(table(args, links, true).as_bytes())?,
        Some(Format::Json) => printer.json(&list(args, links)?)?,
        Some(Format::Yaml) => printer.yaml(&list(args, links)?)?,
        Some(Format::Name) => {
            for link in links {
                printer.line(format_args!("link/{}", name_of(link)))?;
            }
        }
    }
    Ok(())
}

/// One link alone where one was asked for, else a List, as kubectl prints them.
fn list(args: &Args, links: &[Link]) -> anyhow::Result<Value> {
    if let ([link], 1) = (links, args.names.len()) {
        return Ok(serde_json::to_value(link)?);
    }
    let items = links.iter().map(serde_json::to_value).collect::<Result<Vec<_>, _>>()?;
    Ok(json!({"apiVersion": "v1", "kind": "List", "items": items, "metadata": {"resourceVersion": ""}}))
}

fn table(args: &Args, links: &[Link], wide: bool) -> String {
    let mut headings = vec!["NAME", "TARGET", "STATE", "CONNECTIONS", "AGE"];
    if args.all_namespaces {
        headings.insert(0, "NAMESPACE");
    }
    if wide {
        headings.extend(["PORTS", "ADDRESSES", "MESSAGE"]);
    }
    let mut table = Table::new(&headings);
    let now = Timestamp::now();
    for link in links {
        let (meta, spec, status) = (&link.metadata, &link.spec, &link.status);
        let connections = status.connections.map(|count| count.to_string()).unwrap_or_default();
        let age = since(meta.creation_timestamp.as_ref().map(|it| it.0), now);
        let mut cells = vec![name_of(link).to_owned(), spec.target.clone(), status.state.clone(), connections, age];
        if args.all_namespaces {
            cells.insert(0, meta.namespace.clone().unwrap_or_default());
        }
        if wide {
            cells.extend([status.ports.join(","), status.addresses.join(","), status.message.clone()]);
        }
        table.row(cells);
    }
    let text = table.render();
    if args.no_headers { text.split_once('\n').map(|(_, rest)| rest.to_owned()).unwrap_or_default() } else { text }
}
