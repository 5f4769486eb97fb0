//! Objects of other kinds than pods: those that the agent alone knows, and networks, which records tell of.

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use hyper::Method;
use jiff::Timestamp;
use runtime::network::overview;
use serde_json::{Value, json};

use super::Args;
use crate::api::client::Client;
use crate::api::table::{Form, Include};
use crate::cli::Global;
use crate::net::networks::object::recorded;
use crate::printer::{Printer, Table};
use crate::privilege::require_root;
use crate::store::{Kind, Object};
use crate::verbs::{Format, block_on};

/// What a table is asked for with.
const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io";

/// The kind that a word means: in the plural, in the singular, or short.
pub fn kind_of(word: &str) -> Option<Kind> {
    let is =
        |kind: &Kind| word == kind.plural() || word == kind.name().to_lowercase() || kind.short_names().contains(&word);
    Kind::ALL.into_iter().find(is)
}

/// All the words for kinds.
pub const WORDS: [&str; 32] = [
    "pods",
    "pod",
    "po",
    "ambassadors",
    "ambassador",
    "configmaps",
    "configmap",
    "cm",
    "endpointslices",
    "endpointslice",
    "events",
    "event",
    "ev",
    "links",
    "link",
    "namespaces",
    "namespace",
    "ns",
    "networkpolicies",
    "networkpolicy",
    "netpol",
    "networks",
    "network",
    "nodes",
    "node",
    "no",
    "persistentvolumeclaims",
    "persistentvolumeclaim",
    "pvc",
    "services",
    "service",
    "svc",
];

/// Shows objects of a kind.
pub fn main(kind: Kind, args: &Args, global: &Global) -> anyhow::Result<ExitCode> {
    let client = Client::of(&global.state_dir);
    let everywhere = args.all_namespaces || !kind.namespaced();
    let namespace = if everywhere { String::new() } else { format!("/namespaces/{}", args.namespace) };
    let address = format!("/{}{namespace}/{}", kind.group().path(), kind.plural());
    let (accept, list) = match args.output {
        None | Some(Format::Wide) => (TABLE, "rows"),
        _ => ("application/json", "items"),
    };
    let answer = block_on(client.ask_for(Method::GET, &address, accept, None))?.object;
    select(kind, args, answer, list)
}

/// Shows the networks of the host, whoever's they are, with an agent and without one.
pub fn networks(args: &Args, global: &Global) -> anyhow::Result<ExitCode> {
    require_root("asking for networks")?;
    let known = overview(&global.state_dir, &global.this_boot()?).context("read the records of networks")?;
    let objects: Vec<Object> = recorded(&known).into_iter().map(|it| Object::Network(Arc::new(it))).collect();
    let metadata = json!({});
    match args.output {
        None | Some(Format::Wide) => {
            let form = Form { version: "meta.k8s.io/v1", include: Include::Metadata };
            let table = form.table(Kind::Network, &objects, &metadata, true, Timestamp::now());
            select(Kind::Network, args, table, "rows")
        }
        _ => select(Kind::Network, args, json!({"items": objects}), "items"),
    }
}

/// Shows the objects in an answer that are asked for.
fn select(kind: Kind, args: &Args, mut answer: Value, list: &str) -> anyhow::Result<ExitCode> {
    let found = answer[list].as_array_mut().context("read the agent's answer")?;
    let missing: Vec<&String> =
        args.names.iter().filter(|name| !found.iter().any(|it| name_of(it) == name.as_str())).collect();
    if !args.names.is_empty() {
        found.retain(|it| args.names.iter().any(|name| name_of(it) == name));
    }
    show(kind, args, &mut answer, list)?;
    if let Some(name) = missing.first() {
        bail!("{} \"{name}\" not found", kind.plural());
    }
    Ok(ExitCode::SUCCESS)
}

/// The name of an object, or of a row of one.
fn name_of(item: &Value) -> &str {
    let meta = item.get("object").unwrap_or(item);
    meta["metadata"]["name"].as_str().unwrap_or_default()
}

fn show(kind: Kind, args: &Args, answer: &mut Value, list: &str) -> anyhow::Result<()> {
    let mut printer = Printer::stdout();
    let found = answer[list].as_array().map(Vec::as_slice).unwrap_or_default();
    match args.output {
        None | Some(Format::Wide) if found.is_empty() && args.names.is_empty() => {
            let place = match args.all_namespaces || !kind.namespaced() {
                true => String::new(),
                false => format!(" in {} namespace", args.namespace),
            };
            anstream::eprintln!("No resources found{place}.");
        }
        None | Some(Format::Wide) => printer.text(table(kind, args, answer).as_bytes())?,
        Some(Format::Json) => printer.json(&whole(args, kind, found))?,
        Some(Format::Yaml) => printer.yaml(&whole(args, kind, found))?,
        Some(Format::Name) => {
            let group = kind.group().name;
            let dot = if group.is_empty() { "" } else { "." };
            for object in found {
                printer.line(format_args!("{}{dot}{group}/{}", kind.name().to_lowercase(), name_of(object)))?;
            }
        }
    }
    Ok(())
}

/// One object alone where one was asked for, else a List, as kubectl prints them.
fn whole(args: &Args, kind: Kind, found: &[Value]) -> Value {
    let named = |object: &Value| {
        let mut object = object.clone();
        object["apiVersion"] = json!(kind.group().api_version());
        object["kind"] = json!(kind.name());
        object
    };
    match found {
        [one] if args.names.len() == 1 => named(one),
        all => {
            let items: Vec<Value> = all.iter().map(named).collect();
            json!({"apiVersion": "v1", "kind": "List", "items": items, "metadata": {"resourceVersion": ""}})
        }
    }
}

fn table(kind: Kind, args: &Args, answer: &Value) -> String {
    let wide = args.output == Some(Format::Wide);
    let columns = answer["columnDefinitions"].as_array().map(Vec::as_slice).unwrap_or_default();
    let shown: Vec<usize> = (0..columns.len()).filter(|at| wide || columns[*at]["priority"] == 0).collect();
    let namespaces = args.all_namespaces && kind.namespaced();
    let heading = |at: &usize| columns[*at]["name"].as_str().unwrap_or_default().to_uppercase();
    let mut headings: Vec<String> = shown.iter().map(heading).collect();
    if namespaces {
        headings.insert(0, "NAMESPACE".to_owned());
    }
    let mut table = Table::new(&headings.iter().map(String::as_str).collect::<Vec<_>>());
    for row in answer["rows"].as_array().into_iter().flatten() {
        let cell = |at: &usize| row["cells"][*at].as_str().map_or_else(|| row["cells"][*at].to_string(), str::to_owned);
        let mut cells: Vec<String> = shown.iter().map(cell).collect();
        if namespaces {
            cells.insert(0, row["object"]["metadata"]["namespace"].as_str().unwrap_or_default().to_owned());
        }
        table.row(cells);
    }
    let text = table.render();
    if args.no_headers { text.split_once('\n').map(|(_, rest)| rest.to_owned()).unwrap_or_default() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_its_words() {
        assert!(WORDS.iter().all(|word| kind_of(word).is_some()));
        let words = Kind::ALL.map(|kind| 2 + kind.short_names().len());
        assert_eq!(words.iter().sum::<usize>(), WORDS.len());
        assert_eq!(kind_of("netpol"), Some(Kind::NetworkPolicy));
    }
}
