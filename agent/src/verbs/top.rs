//! `coracle top`

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use cri_proto::cri;
use runtime::Owner;

use crate::channel::{Cri, in_memory};
use crate::cli::Global;
use crate::engine::config::names::{CONTAINER_NAME, POD_UID};
use crate::engine::record::{self, PodRecord};
use crate::local;
use crate::printer::{Printer, Table};
use crate::privilege::require_root;
use crate::record::{name_of, namespace_of};

/// Over how long the use of processors is measured.
const INTERVAL: Duration = Duration::from_millis(500);

/// Flags of `top`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Kind of object
    #[arg(value_name = "KIND", value_parser = ["pods", "pod", "po"], default_value = "pods", hide_default_value = true)]
    kind: String,
    /// Names; all by default
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// A line for each container
    #[arg(long)]
    containers: bool,
    /// What is used most comes first; by name without this
    #[arg(long, value_name = "COLUMN", value_enum)]
    sort_by: Option<Column>,
    /// A line with the sums at the end
    #[arg(long)]
    sum: bool,
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

/// What rows can be sorted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Column {
    Cpu,
    Memory,
}

/// Shows what pods use.
pub fn main(args: Args, global: &Global) -> anyhow::Result<ExitCode> {
    require_root("measuring what pods use")?;
    let (mut records, unreadable) = record::list_in_boot(&global.state_dir, &global.this_boot()?)?;
    for bad in unreadable {
        anstream::eprintln!("warning: {bad}");
    }
    records.retain(|record| args.all_namespaces || namespace_of(record) == args.namespace);
    if !args.names.is_empty() {
        if let Some(missing) = args.names.iter().find(|name| records.iter().all(|record| name_of(record) != **name)) {
            bail!("pods \"{missing}\" not found");
        }
        records.retain(|record| args.names.iter().any(|name| name_of(record) == name));
    }
    for (name, runtime) in records.iter().filter_map(foreign) {
        anstream::eprintln!("warning: pod {name} runs in {runtime}, which is not asked here");
    }
    let rows = super::block_on(measure(global, &records))?;
    if rows.is_empty() {
        if let Some(name) = args.names.first() {
            bail!("no container of pod {name} runs");
        }
        let place = if args.all_namespaces { String::new() } else { format!(" in {} namespace", args.namespace) };
        anstream::eprintln!("No resources found{place}.");
        return Ok(ExitCode::SUCCESS);
    }
    Printer::stdout().text(table(&args, rows).as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

/// The pod's name and its runtime's, where that is not the one in this binary.
fn foreign(record: &PodRecord) -> Option<(&str, &str)> {
    let statuses = record.pod.status.as_ref()?.container_statuses.as_ref()?;
    let (runtime, _) = statuses.iter().find_map(|status| status.container_id.as_deref())?.split_once("://")?;
    (runtime != "coracle").then(|| (name_of(record), runtime))
}

/// What one container uses, or one pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Row {
    namespace: String,
    pod: String,
    container: String,
    nano_cores: u64,
    bytes: u64,
}

/// Asks twice: the use of a processor is what was added between.
async fn measure(global: &Global, records: &[PodRecord]) -> anyhow::Result<Vec<Row>> {
    let owners: BTreeSet<&str> = records.iter().map(|record| record.owner.as_str()).collect();
    let mut clients: Vec<Cri> = Vec::new();
    let mut runtime = None;
    for owner in owners {
        let owner = Owner::try_from(owner.to_owned()).map_err(anyhow::Error::msg)?;
        if runtime.is_none() {
            runtime = Some(local::open(global, owner.clone(), None)?.0);
        }
        clients.extend(runtime.as_ref().map(|runtime| Cri::new(in_memory(runtime.services(owner)))));
    }
    let before: BTreeMap<String, cri::ContainerStats> = read(&clients).await?.collect();
    if before.is_empty() {
        return Ok(Vec::new());
    }
    tokio::time::sleep(INTERVAL).await;
    let pods: BTreeMap<&str, &PodRecord> =
        records.iter().filter_map(|record| Some((record.pod.metadata.uid.as_deref()?, record))).collect();
    let rows = read(&clients).await?.filter_map(|(id, after)| {
        let labels = after.attributes.as_ref().map(|attributes| &attributes.labels)?;
        let record = pods.get(labels.get(POD_UID)?.as_str())?;
        Some(Row {
            namespace: namespace_of(record).to_owned(),
            pod: name_of(record).to_owned(),
            container: labels.get(CONTAINER_NAME).cloned().unwrap_or_default(),
            nano_cores: nano_cores(before.get(&id)?, &after),
            bytes: after.memory.as_ref().and_then(|memory| memory.working_set_bytes).map_or(0, |it| it.value),
        })
    });
    Ok(rows.collect())
}

async fn read(clients: &[Cri]) -> anyhow::Result<impl Iterator<Item = (String, cri::ContainerStats)> + use<>> {
    let mut all = Vec::new();
    for client in clients {
        let request = cri::ListContainerStatsRequest::default();
        let answer = client.runtime.clone().list_container_stats(request).await;
        all.extend(answer.context("ask the runtime for statistics")?.into_inner().stats);
    }
    Ok(all.into_iter().filter_map(|stats| Some((stats.attributes.as_ref()?.id.clone(), stats))))
}

fn nano_cores(before: &cri::ContainerStats, after: &cri::ContainerStats) -> u64 {
    let read = |stats: &cri::ContainerStats| {
        let cpu = stats.cpu.as_ref()?;
        Some((cpu.timestamp, cpu.usage_core_nano_seconds.as_ref()?.value))
    };
    let (Some((then, used_then)), Some((now, used_now))) = (read(before), read(after)) else { return 0 };
    let span = u128::from(now.saturating_sub(then).unsigned_abs());
    let used = u128::from(used_now.saturating_sub(used_then));
    (used * 1_000_000_000).checked_div(span).and_then(|cores| u64::try_from(cores).ok()).unwrap_or(0)
}

fn table(args: &Args, rows: Vec<Row>) -> String {
    let mut rows = if args.containers { rows } else { by_pod(rows) };
    let by_name = |row: &Row| (row.namespace.clone(), row.pod.clone(), row.container.clone());
    match args.sort_by {
        None => rows.sort_by_key(by_name),
        Some(Column::Cpu) => rows.sort_by_key(|row| (std::cmp::Reverse(row.nano_cores), by_name(row))),
        Some(Column::Memory) => rows.sort_by_key(|row| (std::cmp::Reverse(row.bytes), by_name(row))),
    }
    let mut headings = if args.containers { vec!["POD", "NAME"] } else { vec!["NAME"] };
    if args.all_namespaces {
        headings.insert(0, "NAMESPACE");
    }
    headings.extend(["CPU(cores)", "MEMORY(bytes)"]);
    let mut table = Table::new(&headings);
    let (mut nano_cores, mut bytes) = (0, 0);
    for row in &rows {
        nano_cores += row.nano_cores;
        bytes += row.bytes;
        let mut cells = vec![row.pod.clone()];
        if args.containers {
            cells.push(row.container.clone());
        }
        if args.all_namespaces {
            cells.insert(0, row.namespace.clone());
        }
        cells.extend([cores(row.nano_cores), mebibytes(row.bytes)]);
        table.row(cells);
    }
    if args.sum {
        let names = headings.len() - 2;
        // An empty cell would show as if something were missing.
        let blank = std::iter::repeat_n(" ".to_owned(), names);
        table.row(blank.chain([cores(nano_cores), mebibytes(bytes)]));
    }
    let text = table.render();
    if args.no_headers { text.split_once('\n').map(|(_, rest)| rest.to_owned()).unwrap_or_default() } else { text }
}

fn by_pod(rows: Vec<Row>) -> Vec<Row> {
    let mut pods: BTreeMap<(String, String), Row> = BTreeMap::new();
    for row in rows {
        let key = (row.namespace.clone(), row.pod.clone());
        let pod =
            pods.entry(key).or_insert_with(|| Row { container: String::new(), nano_cores: 0, bytes: 0, ..row.clone() });
        pod.nano_cores += row.nano_cores;
        pod.bytes += row.bytes;
    }
    pods.into_values().collect()
}

/// Thousandths of a processor, rounded up: what is used is never shown as nothing.
fn cores(nano: u64) -> String {
    format!("{}m", nano.div_ceil(1_000_000))
}

fn mebibytes(bytes: u64) -> String {
    format!("{}Mi", bytes >> 20)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn shown(flags: &[&str]) -> String {
        let row = |pod: &str, container: &str, nano_cores, bytes| Row {
            namespace: "default".into(),
            pod: pod.into(),
            container: container.into(),
            nano_cores,
            bytes,
        };
        let rows = vec![row("web", "b", 2, 3 << 20), row("web", "a", 250_000_000, 1 << 20), row("db", "c", 0, 9 << 20)];
        let args = Line::try_parse_from([&["top"], flags].concat()).unwrap().args;
        table(&args, rows)
    }

    #[test]
    fn a_pod_uses_what_its_containers_use() {
        assert_eq!(
            shown(&[]),
            "NAME   CPU(cores)   MEMORY(bytes)\n\
             db     0m           9Mi\n\
             web    251m         4Mi\n"
        );
    }

    #[test]
    fn containers_have_a_line_of_their_own() {
        assert_eq!(
            shown(&["pods", "--containers", "-A"]),
            "NAMESPACE   POD   NAME   CPU(cores)   MEMORY(bytes)\n\
             default     db    c      0m           9Mi\n\
             default     web   a      250m         1Mi\n\
             default     web   b      1m           3Mi\n"
        );
    }

    #[test]
    fn rows_are_sorted_and_summed() {
        assert_eq!(shown(&["--sort-by", "cpu", "--no-headers"]), "web    251m         4Mi\ndb     0m           9Mi\n");
        assert_eq!(shown(&["--sort-by=memory", "--no-headers"]), "db     0m           9Mi\nweb    251m         4Mi\n");
        assert!(shown(&["--sum"]).ends_with("\n       251m         13Mi\n"), "{}", shown(&["--sum"]));
    }

    #[test]
    fn a_rate_is_what_was_added_between_two_readings() {
        let stats = |timestamp, used| cri::ContainerStats {
            cpu: Some(cri::CpuUsage {
                timestamp,
                usage_core_nano_seconds: Some(cri::UInt64Value { value: used }),
                ..Default::default()
            }),
            ..Default::default()
        };
        let half_a_second = 500_000_000;
        assert_eq!(nano_cores(&stats(0, 5), &stats(half_a_second, 5 + 250_000_000)), 500_000_000);
        assert_eq!(nano_cores(&stats(7, 5), &stats(7, 9)), 0);
        // A container of the same id never uses less; what cannot be is not shown.
        assert_eq!(nano_cores(&stats(0, 9), &stats(half_a_second, 5)), 0);
        assert_eq!(nano_cores(&cri::ContainerStats::default(), &stats(1, 1)), 0);
    }
}
