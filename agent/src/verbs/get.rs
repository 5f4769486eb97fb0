//! `coracle get`

mod links;
mod objects;

use std::process::ExitCode;

use anyhow::bail;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::Format;
use crate::cli::Global;
use crate::engine::record::{self, PodRecord};
use crate::printer::{Columns, Printer, Table};
use crate::record::{name_of, namespace_of};
use crate::store::Kind;

/// Flags of `get`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Kind of object
    #[arg(value_name = "KIND", value_parser = objects::WORDS)]
    kind: String,
    /// Names; all by default
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// Form of the output; a table by default
    #[arg(short, long, value_name = "FORM", value_enum)]
    output: Option<Format>,
    /// Namespace
    #[arg(short, long, value_name = "NAMESPACE", default_value = "default")]
    namespace: String,
    /// Every namespace
    #[arg(short = 'A', long)]
    all_namespaces: bool,
    /// Leave the headings out
    #[arg(long)]
    no_headers: bool,
}

/// Shows objects: pods, links and networks from records, which are there without an agent, too; others as the agent has
/// them.
pub fn main(args: Args, global: &Global) -> anyhow::Result<ExitCode> {
    match objects::kind_of(&args.kind) {
        Some(Kind::Link) => return links::main(&args, global),
        Some(Kind::Network) => return objects::networks(&args, global),
        Some(kind) if kind != Kind::Pod => return objects::main(kind, &args, global),
        _ => {}
    }
    let (mut records, unreadable) = record::list_in_boot(&global.state_dir, &global.this_boot()?)?;
    records.retain(|record| args.all_namespaces || namespace_of(record) == args.namespace);
    let missing: Vec<&String> =
        args.names.iter().filter(|name| records.iter().all(|record| name_of(record) != **name)).collect();
    if !args.names.is_empty() {
        records.retain(|record| args.names.iter().any(|name| name_of(record) == name));
    }
    for bad in unreadable {
        anstream::eprintln!("warning: {bad}");
    }
    show(&args, &records)?;
    if let Some(name) = missing.first() {
        bail!("pods \"{name}\" not found");
    }
    Ok(ExitCode::SUCCESS)
}

fn show(args: &Args, records: &[PodRecord]) -> anyhow::Result<()> {
    let mut printer = Printer::stdout();
    match args.output {
        None | Some(Format::Wide) if records.is_empty() && args.names.is_empty() => {
            let place = if args.all_namespaces { String::new() } else { format!(" in {} namespace", args.namespace) };
            anstream::eprintln!("No resources found{place}.");
        }
        None => printer.text(table(args, records, false).as_bytes())?,
        Some(Format::Wide) => printer.text(table(args, records, true).as_bytes())?,
        Some(Format::Json) => printer.json(&list(args, records)?)?,
        Some(Format::Yaml) => printer.yaml(&list(args, records)?)?,
        Some(Format::Name) => {
            for record in records {
                printer.line(format_args!("pod/{}", name_of(record)))?;
            }
        }
    }
    Ok(())
}

/// One pod alone where one was asked for, else a List, as kubectl prints them.
fn list(args: &Args, records: &[PodRecord]) -> anyhow::Result<Value> {
    let mut items = records.iter().map(|record| serde_json::to_value(&record.pod)).collect::<Result<Vec<_>, _>>()?;
    if args.names.len() == 1
        && items.len() == 1
        && let Some(pod) = items.pop()
    {
        return Ok(pod);
    }
    Ok(json!({"apiVersion": "v1", "kind": "List", "items": items, "metadata": {"resourceVersion": ""}}))
}

fn table(args: &Args, records: &[PodRecord], wide: bool) -> String {
    let mut headings = vec!["NAME", "READY", "STATUS", "RESTARTS", "AGE"];
    if args.all_namespaces {
        headings.insert(0, "NAMESPACE");
    }
    if wide {
        headings.extend(["IP", "NODE"]);
    }
    let mut table = Table::new(&headings);
    let now = Timestamp::now();
    for record in records {
        let columns = Columns::of(&record.pod, now);
        let mut cells = vec![name_of(record).to_owned(), columns.ready, columns.status, columns.restarts, columns.age];
        if args.all_namespaces {
            cells.insert(0, namespace_of(record).to_owned());
        }
        if wide {
            let status = record.pod.status.as_ref();
            let spec = record.pod.spec.as_ref();
            let none = || "<none>".to_owned();
            cells.push(status.and_then(|status| status.pod_ip.clone()).unwrap_or_else(none));
            cells.push(spec.and_then(|spec| spec.node_name.clone()).unwrap_or_else(none));
        }
        table.row(cells);
    }
    let text = table.render();
    if args.no_headers { text.split_once('\n').map(|(_, rest)| rest.to_owned()).unwrap_or_default() } else { text }
}
