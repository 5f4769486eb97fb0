//! From the text to the settings.

use super::Config;
use super::settings;
use super::types::KubeletConfiguration;
use crate::diagnostic::Severity::{Error, Warning};
use crate::path::Path;
use crate::report::Report;
use crate::suggest::clip;
use crate::yaml::{self, Mark, Node, Scalar, Tree};
use crate::{Diagnostic, Source, check};

const API_VERSION: &str = "kubelet.config.k8s.io/v1beta1";
const KIND: &str = "KubeletConfiguration";

/// Reads a `KubeletConfiguration`. The settings are there when nothing is wrong with them; what is, and what has no
/// effect, is all reported.
pub fn read(source: &Source) -> (Option<Config>, Vec<Diagnostic>) {
    let mut report = Report::new(&source.name, &source.text);
    let (documents, faults) = yaml::parse(&source.text);
    for fault in faults {
        let severity = if fault.warning { Warning } else { Error };
        report.add(severity, fault.at, &Path::default(), fault.message, fault.help);
    }
    let mut documents = documents.iter().filter(|document| !document.is_null());
    let config = documents.next().and_then(|document| one(document, &mut report));
    if let Some(second) = documents.next() {
        report.add(Error, second.at, &Path::default(), format!("there is more than one {KIND}"), None);
    }
    if config.is_none() && !report.errors_since(0) {
        let at = Mark { line: 1, column: 1, width: 1 };
        report.add(Error, at, &Path::default(), format!("there is no {KIND} in this file"), None);
    }
    let config = config.filter(|_| !report.errors_since(0));
    (config, report.finish())
}

fn one(document: &Node, report: &mut Report<'_>) -> Option<Config> {
    let Tree::Map(entries) = &document.tree else {
        let help = format!("it begins with `apiVersion: {API_VERSION}` and `kind: {KIND}`");
        report.add(Error, document.at, &Path::default(), "expected an object", Some(help));
        return None;
    };
    for (name, expected) in [("apiVersion", API_VERSION), ("kind", KIND)] {
        let path = Path::default().field(name);
        let found = entries.iter().find(|entry| entry.key == name).map(|entry| &entry.value.tree);
        let message = match found {
            Some(Tree::Scalar { text, meaning: Scalar::Str }) if text == expected => continue,
            Some(Tree::Scalar { text, .. }) => format!("`{}` is not `{expected}`", clip(text)),
            _ => format!("`{name}` is missing"),
        };
        let (at, _) = path.locate(document);
        report.add(Error, at, &path, message, Some(format!("write `{name}: {expected}`")));
        return None;
    }
    let json = check::object(KIND, document, &Path::default(), report);
    match serde_json::from_value::<KubeletConfiguration>(json) {
        Ok(raw) => Some(settings::of(&raw, document, report)),
        Err(error) => {
            // The schema is made from the type, so this is a fault of the schema; it must not pass for a success.
            report.add(Error, document.at, &Path::default(), format!("not a {KIND}: {error}"), None);
            None
        }
    }
}
