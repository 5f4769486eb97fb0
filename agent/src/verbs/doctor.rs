//! `coracle doctor`

use std::process::ExitCode;

use anstyle::{AnsiColor, Style};
use runtime::probe::{self, Finding, State};

use crate::cli::Global;
use crate::local;
use crate::printer::{Printer, Table};
use crate::verbs::Encoding;

/// Flags of `doctor`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Print as JSON or YAML
    #[arg(short, long, value_enum)]
    output: Option<Encoding>,
}

/// Shows what was found and, below what is not as it should be, what follows and what to do. Exits 1 when no pod can
/// run here.
pub fn main(args: Args, global: &Global) -> anyhow::Result<ExitCode> {
    let options = probe::Options::new(global.root_dir.clone(), global.state_dir.clone());
    let findings = probe::host(&probe::Options { cni: local::cni(global), ..options });
    let mut printer = Printer::stdout();
    match args.output {
        Some(Encoding::Json) => printer.json(&findings)?,
        Some(Encoding::Yaml) => printer.yaml(&findings)?,
        None => printer.text(report(&findings).as_bytes())?,
    }
    Ok(if findings.iter().any(impossible) { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn impossible(finding: &Finding) -> bool {
    finding.state == State::Missing
}

fn report(findings: &[Finding]) -> String {
    let mut table = Table::new(&["STATE", "TOPIC", "FOUND"]);
    for it in findings {
        table.row([word(it.state), it.topic, &it.what]);
    }
    let layout = table.render();
    let mut lines = layout.lines();
    let heading = lines.next().unwrap_or_default();
    let indent = " ".repeat(heading.find("FOUND").unwrap_or(0));
    let mut text = format!("{heading}\n");
    for (line, it) in lines.zip(findings) {
        // The state is the first word, so colouring it after the layout does not move the columns.
        let (state, rest) = line.split_once(' ').unwrap_or((line, ""));
        let style = style(it.state);
        text.push_str(&format!("{style}{state}{style:#} {rest}\n"));
        for (label, detail) in [("so", &it.consequence), ("remedy", &it.remedy)] {
            if let Some(detail) = detail {
                text.push_str(&format!("{indent}{label}: {detail}\n"));
            }
        }
    }
    text.push('\n');
    text.push_str(verdict(findings));
    text.push('\n');
    text
}

fn verdict(findings: &[Finding]) -> &'static str {
    if findings.iter().any(impossible) {
        "No pod can run on this host until what is missing is there."
    } else if findings.iter().any(|it| it.state != State::Ok) {
        "Pods run on this host, within the limits above."
    } else {
        "Everything is there."
    }
}

fn word(state: State) -> &'static str {
    match state {
        State::Ok => "ok",
        State::Degraded => "degraded",
        State::Missing => "missing",
    }
}

fn style(state: State) -> Style {
    let color = match state {
        State::Ok => AnsiColor::Green,
        State::Degraded => AnsiColor::Yellow,
        State::Missing => AnsiColor::Red,
    };
    Style::new().fg_color(Some(color.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(topic: &'static str, state: State) -> Finding {
        Finding { topic, state, what: "seen".into(), consequence: None, remedy: None }
    }

    #[test]
    fn only_what_is_missing_makes_pods_impossible() {
        let (ok, degraded) = (finding("overlay", State::Ok), finding("limits", State::Degraded));
        assert_eq!(verdict(std::slice::from_ref(&ok)), "Everything is there.");
        assert!(verdict(&[ok, degraded]).starts_with("Pods run"));
        assert!(verdict(&[finding("overlay", State::Missing)]).starts_with("No pod"));
    }

    #[test]
    fn what_follows_stands_below_what_was_found() {
        let (consequence, remedy) = (Some("no limits".into()), Some("mount them".into()));
        let cgroups = Finding { consequence, remedy, ..finding("cgroups", State::Degraded) };
        let text = report(&[finding("overlay", State::Ok), cgroups]);
        let plain = anstream::adapter::strip_str(&text).to_string();
        assert_eq!(
            plain,
            "STATE      TOPIC     FOUND\n\
             ok         overlay   seen\n\
             degraded   cgroups   seen\n\
             \x20                    so: no limits\n\
             \x20                    remedy: mount them\n\n\
             Pods run on this host, within the limits above.\n"
        );
        assert!(text.contains("\x1b[33mdegraded\x1b[0m"), "{text:?}");
    }
}
