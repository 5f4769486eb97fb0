//! `coracle events`

use std::process::ExitCode;

use hyper::Method;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Event;
use serde_json::Value;

use super::Encoding;
use crate::api::client::{Client, Options};
use crate::cli::Global;
use crate::printer::human::since;
use crate::printer::{Printer, Table};

/// Flags of `events`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// What it happened to, such as pod/web
    #[arg(long = "for", value_name = "KIND/NAME")]
    about: Option<String>,
    /// Namespace
    #[arg(short, long, value_name = "NAMESPACE", default_value = "default")]
    namespace: String,
    /// Every namespace
    #[arg(short = 'A', long)]
    all_namespaces: bool,
    /// Go on printing what happens
    #[arg(short, long)]
    watch: bool,
    /// Form of the output; a table by default
    #[arg(short, long, value_name = "FORM", value_enum, conflicts_with = "watch")]
    output: Option<Encoding>,
}

/// Shows what happened, the latest last.
pub fn main(args: Args, global: &Global) -> anyhow::Result<ExitCode> {
    let client = Client::of(&global.state_dir);
    super::block_on(async {
        let path = path(&args);
        let list = client.ask(Method::GET, &selected(&args).of(&path), None).await?.object;
        let mut printer = Printer::stdout();
        match args.output {
            Some(Encoding::Json) => printer.json(&list)?,
            Some(Encoding::Yaml) => printer.yaml(&list)?,
            None => {
                let events = of_list(&list);
                if events.is_empty() {
                    anstream::eprintln!("No events found.");
                } else {
                    printer.text(table(&events).as_bytes())?;
                }
            }
        }
        if !args.watch {
            return Ok(ExitCode::SUCCESS);
        }
        let version = list["metadata"]["resourceVersion"].as_str().map(str::to_owned);
        let options = selected(&args).with("watch", "true").and("resourceVersion", version.as_deref());
        let mut changes = client.follow(&options.of(&path)).await?;
        while let Some(change) = changes.next().await? {
            if change["type"] != "DELETED"
                && let Ok(event) = serde_json::from_value::<Event>(change["object"].clone())
            {
                printer.line(row(&event).join("   "))?;
            }
        }
        Ok(ExitCode::SUCCESS)
    })
}

fn path(args: &Args) -> String {
    if args.all_namespaces { "/api/v1/events".into() } else { format!("/api/v1/namespaces/{}/events", args.namespace) }
}

fn selected(args: &Args) -> Options {
    let selector = args.about.as_deref().map(|about| match about.split_once('/') {
        Some((kind, name)) => format!("involvedObject.kind={},involvedObject.name={name}", kind_of(kind)),
        None => format!("involvedObject.name={about}"),
    });
    Options::default().and("fieldSelector", selector.as_deref())
}

/// A kind as events spell it.
fn kind_of(word: &str) -> &str {
    match word {
        "pod" | "pods" | "po" => "Pod",
        "node" | "nodes" | "no" => "Node",
        other => other,
    }
}

/// The events of a list, the one that happened last at the end.
pub fn of_list(list: &Value) -> Vec<Event> {
    let items = list["items"].as_array().into_iter().flatten().cloned();
    let mut events: Vec<Event> = items.filter_map(|item| serde_json::from_value(item).ok()).collect();
    events.sort_by_key(|event| event.last_timestamp.as_ref().map(|time| time.0));
    events
}

fn table(events: &[Event]) -> String {
    let mut table = Table::new(&["LAST SEEN", "TYPE", "REASON", "OBJECT", "MESSAGE"]);
    for event in events {
        table.row(row(event));
    }
    table.render()
}

fn row(event: &Event) -> [String; 5] {
    let about = &event.involved_object;
    let kind = about.kind.as_deref().unwrap_or_default().to_lowercase();
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let object = format!("{kind}/{}", about.name.as_deref().unwrap_or_default());
    [age(event), text(&event.type_), text(&event.reason), object, text(&event.message)]
}

/// When it happened last, how often, and since when.
pub fn age(event: &Event) -> String {
    let now = Timestamp::now();
    let span = |time: Option<&k8s_openapi::apimachinery::pkg::apis::meta::v1::Time>| since(time.map(|it| it.0), now);
    let last = span(event.last_timestamp.as_ref());
    match event.count {
        Some(count @ 2..) => format!("{last} (x{count} over {})", span(event.first_timestamp.as_ref())),
        _ => last,
    }
}
