//! `coracle why`

use std::process::ExitCode;

use anyhow::Context as _;
use hyper::Method;
use jiff::Timestamp;
use serde_json::Value;

use super::Encoding;
use crate::api::client::{Client, NotServed, pod};
use crate::cli::Global;
use crate::engine::record::PodRecord;
use crate::node;
use crate::node::why::{self, Cause, Why};
use crate::printer::Printer;
use crate::record::{find, name_of, namespace_of};

/// Flags of `why`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Namespace of the pod, where its name alone does not tell
    #[arg(short, long, value_name = "NAMESPACE")]
    namespace: Option<String>,
    /// Form of the output; text by default
    #[arg(short, long, value_name = "FORM", value_enum)]
    output: Option<Encoding>,
    /// Pod
    #[arg(value_name = "POD")]
    pod: String,
}

/// Says why a pod is as it is: what it waits for, since when, the last error, the next attempt, and what to do.
pub fn main(args: Args, global: &Global) -> anyhow::Result<ExitCode> {
    let record = find(&global.state_dir, &global.this_boot()?, &args.pod, args.namespace.as_deref())?;
    let why: Why = match ask(&record, global)? {
        Some(answer) => serde_json::from_value(answer).context("read the agent's answer")?,
        // Without an agent the record says what was the case when it was written.
        None => why::of_record(&record.pod, record.owner == "agent" && node::file_of(&record.pod).is_none()),
    };
    let mut printer = Printer::stdout();
    match args.output {
        Some(Encoding::Json) => printer.json(&value(&why)?)?,
        Some(Encoding::Yaml) => printer.yaml(&value(&why)?)?,
        None => printer.text(render(&why, 0, Timestamp::now()).as_bytes())?,
    }
    Ok(ExitCode::SUCCESS)
}

/// What the agent says, if the pod is one of an agent that runs.
fn ask(record: &PodRecord, global: &Global) -> anyhow::Result<Option<Value>> {
    if record.owner != "agent" {
        return Ok(None);
    }
    let address = pod(namespace_of(record), name_of(record), "why");
    match super::block_on(Client::of(&global.state_dir).ask(Method::GET, &address, None)) {
        Ok(said) => Ok(Some(said.object)),
        Err(error) if error.is::<NotServed>() => Ok(None),
        Err(error) => Err(error),
    }
}

fn value(why: &Why) -> anyhow::Result<Value> {
    Ok(serde_json::to_value(why)?)
}

fn render(why: &Why, depth: usize, now: Timestamp) -> String {
    let indent = "  ".repeat(depth);
    let file = why.file.as_ref().map(|file| format!(" ({file})")).unwrap_or_default();
    let mut text = format!("{indent}pod {} is {}{file}\n", why.pod, why.status);
    if why.causes.is_empty() {
        text.push_str(&format!("{indent}  nothing is the matter with it\n"));
    }
    for cause in &why.causes {
        text.push_str(&one(cause, depth + 1, now));
    }
    text
}

fn one(cause: &Cause, depth: usize, now: Timestamp) -> String {
    let indent = "  ".repeat(depth);
    let since = cause.since.as_ref().map(|since| since.0.duration_until(now).as_secs().max(0));
    let since = since.map(|seconds| format!(", since {}", age(seconds.unsigned_abs()))).unwrap_or_default();
    let mut text = format!("{indent}{}{since}\n", cause.what);
    let mut add = |label: &str, said: &Option<String>| {
        for (at, line) in said.iter().flat_map(|said| said.trim_end().lines()).enumerate() {
            let label = if at == 0 { format!("{label}: ") } else { " ".repeat(label.len() + 2) };
            text.push_str(&format!("{indent}  {label}{line}\n"));
        }
    };
    add("last error", &cause.error);
    add("next attempt", &cause.next);
    add("what to do", &cause.advice);
    for why in &cause.because {
        text.push_str(&render(why, depth + 1, now));
    }
    text
}

fn age(seconds: u64) -> String {
    crate::engine::time::format_duration(std::time::Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_stand_below_each_other_with_what_to_do() {
        let deeper = Why {
            pod: "default/db".into(),
            status: "Pending".into(),
            causes: vec![Cause {
                what: "container db waits: ImagePullBackOff".into(),
                error: Some("no such image\nat all".into()),
                next: Some("in 12s".into()),
                advice: Some("check the name".into()),
                ..Cause::default()
            }],
            ..Why::default()
        };
        let why = Why {
            pod: "default/web".into(),
            status: "Pending".into(),
            file: Some("/m/web.yaml".into()),
            causes: vec![Cause { what: "waits for db".into(), because: vec![deeper], ..Cause::default() }],
        };
        let expected = "pod default/web is Pending (/m/web.yaml)\n  waits for db\n    pod default/db is Pending\n      \
                        container db waits: ImagePullBackOff\n        last error: no such image\n                    at \
                        all\n        next attempt: in 12s\n        what to do: check the name\n";
        assert_eq!(render(&why, 0, Timestamp::UNIX_EPOCH), expected);
    }
}
