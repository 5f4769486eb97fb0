//! One good manifest, one change a row, and everything that is said about it.

#![allow(clippy::unwrap_used)]

mod bad;

use manifests::{Source, read};

/// The good manifest.
const BASE: &str = include_str!("bad/base.yaml");

/// What is wrong, as a sentence; how it came to be; and all that is said: severity, line:column, path, message, help.
struct Row {
    name: &'static str,
    change: &'static [(&'static str, &'static str)],
    says: &'static [&'static str],
}

impl Row {
    fn text(&self) -> String {
        self.change.iter().fold(BASE.to_owned(), |text, (old, new)| {
            assert!(text.contains(old), "{}: the base does not hold {old:?}", self.name);
            text.replacen(old, new, 1)
        })
    }
}

fn said(text: &str) -> Vec<String> {
    let manifest = read(&[Source { name: "pod.yaml".to_owned(), text: text.to_owned() }]);
    let describe = |d: &manifests::Diagnostic| {
        let help = d.help.as_deref().map(|help| format!(" [{help}]")).unwrap_or_default();
        format!("{} {}:{} {}: {}{help}", d.severity.as_str(), d.line, d.column, d.path, d.message)
    };
    manifest.diagnostics.iter().map(describe).collect()
}

#[test]
fn the_base_is_good() {
    assert_eq!(said(BASE), Vec::<String>::new());
}

#[test]
fn every_fault_is_found_where_it_is_and_nothing_else_is() {
    let rows = bad::rows();
    let mut wrong = Vec::new();
    for row in &rows {
        let said = said(&row.text());
        if said != row.says {
            wrong.push(format!("{}\n  expected {:#?}\n  said {said:#?}", row.name, row.says));
        }
    }
    assert!(wrong.is_empty(), "{} of {} rows:\n{}", wrong.len(), rows.len(), wrong.join("\n"));
    assert!(rows.len() >= 60);
}
