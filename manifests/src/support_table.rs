//! The support document, written from the tables that the checks use.

use crate::kinds;
use crate::schema::support::{self, Support};
use crate::schema::{Field, OBJECTS, Type, values};
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// What becomes of every field of every kind that runs, as Markdown.
pub fn support_table() -> String {
    let mut out = String::from(HEADER);
    for kind in kinds::run() {
        let _ = write!(out, "\n## {kind}\n\n| field | type | here |\n|---|---|---|\n");
        let mut table = Table { out: &mut out, described: BTreeMap::new() };
        table.object(kind, "");
    }
    out.push_str("\n## Other kinds\n\nKnown, and left out with a warning:\n\n");
    for (version, kinds) in kinds::not_run_yet() {
        let _ = writeln!(out, "- `{version}`: {}", kinds.join(", "));
    }
    out.push_str("\nA `List` of any kinds is read as its items. Any other kind is an error.\n");
    out
}

/// What becomes of every field of a node's configuration, as Markdown.
pub fn configuration_table() -> String {
    let mut out = String::from(CONFIGURATION);
    out.push_str("\n| field | type | here |\n|---|---|---|\n");
    Table { out: &mut out, described: BTreeMap::new() }.object("KubeletConfiguration", "");
    out
}

const CONFIGURATION: &str = "\
# What counts of a KubeletConfiguration

Generated from the code by the tests of the `manifests` crate; do not edit. [agent.md](agent.md) has the defaults, and \
when a change counts.

- **runs**: it means here what it means to a kubelet.
- **warning**: accepted, said, and without effect, for the reason given. Values that say nothing (`\"\"`, `0`, `0s`, \
`false`, `[]`, `{}`) pass in silence.
- **error**: without it something else would run than what is written, so the agent does not start, or goes on with the \
settings that it has.

Any other field does not exist in `kubelet.config.k8s.io/v1beta1` and is an error. `featureGates` may be empty: nothing \
stands behind a gate.
";

const HEADER: &str = "\
# What runs of a Kubernetes manifest

Generated from the code by the tests of the `manifests` crate; do not edit.

- **runs**: it means here what it means in Kubernetes.
- **warning**: accepted, said, and without effect, for the reason given. `--strict` makes it an error. Values that say \
nothing (`\"\"`, `0`, `false`, `[]`, `{}`) pass in silence.
- **error**: without it something else would run than what is written, so nothing is created.

Any other field does not exist in Kubernetes and is an error. Fields within one that does not run are checked too, but \
not listed.

Of Coracle's own annotations these run, on pods; any other key under `coracle.dev/` is an error.

| annotation | what it says |
|---|---|
| `coracle.dev/after` | the pods that have to be somewhere before this one starts: `db(ready), migrate(completed), \
other-namespace/cache(started)`; without a word, `ready` |
| `coracle.dev/links` | the pods and Services that this one reaches, and what it calls them: `db, cache.other:redis, \
service/web:front, peer(ungated)`; see [links](links.md) |
| `coracle.dev/network` | `flat`, which is also the default: pods reach each other; `private`: it is reached by links \
alone; or the name of a Network |
| `coracle.dev/restart-backoff` | how long its containers wait before they are started again: \
`initial=1s,max=1m,reset=10m`, or a part of that |
| `coracle.dev/restart-on-change` | `\"true\"`: its containers are started again when a ConfigMap or Secret that they use \
changes |

Of Kubernetes' own, `kubernetes.io/ingress-bandwidth` and `kubernetes.io/egress-bandwidth` limit what a pod receives and \
sends, in bits a second.

A PersistentVolumeClaim is a directory of this node, below the root directory in `claims/NAMESPACE/NAME`. It is made \
when a pod first mounts the claim, if the file system has as much room as is requested; nothing keeps it from growing \
further. It stays when its pods go.
";

struct Table<'a> {
    out: &'a mut String,
    /// Where an object type was described first.
    described: BTreeMap<&'static str, String>,
}

impl Table<'_> {
    fn object(&mut self, object: &'static str, prefix: &str) {
        self.described.insert(object, prefix.to_owned());
        for field in OBJECTS.fields(object) {
            self.field(object, field, prefix);
        }
    }

    fn field(&mut self, object: &'static str, field: &Field, prefix: &str) {
        let dot = if prefix.is_empty() { "" } else { "." };
        let path = format!("{prefix}{dot}{}", field.name);
        let (held, suffix) = match &field.ty {
            Type::List(item) => (&**item, "[]"),
            Type::Map(item) => (&**item, "[KEY]"),
            ty => (ty, ""),
        };
        let support = support::of(object, field.name);
        let mut here = describe(support);
        let nested = match held {
            Type::Object(name) if support == Some(Support::Runs) => Some(*name),
            _ => None,
        };
        if let Some(first) = nested.and_then(|name| self.described.get(name)) {
            let _ = write!(here, ", as `{first}`");
        } else if let Some(values) = values::of(object, field.name).filter(|_| support == Some(Support::Runs)) {
            let values: Vec<String> = values.iter().filter(|v| !v.is_empty()).map(|v| format!("`{v}`")).collect();
            let _ = write!(here, ": {}", values.join(", "));
        }
        let required = if field.required { ", required" } else { "" };
        let _ = writeln!(self.out, "| `{path}{suffix}` | {}{required} | {here} |", name(&field.ty));
        if let Some(name) = nested.filter(|name| !self.described.contains_key(name)) {
            self.object(name, &format!("{path}{suffix}"));
        }
    }
}

pub(crate) fn describe(support: Option<Support>) -> String {
    match support {
        Some(Support::Runs) => "runs".to_owned(),
        Some(Support::Ignored(why)) => format!("warning: {why}"),
        Some(Support::RunsFor(values, why)) => {
            let values: Vec<String> = values.iter().map(|value| format!("`{value}`")).collect();
            format!("runs: {}; otherwise a warning: {why}", values.join(", "))
        }
        Some(Support::NotYet { harmless }) => {
            let harmless: Vec<String> =
                harmless.iter().filter(|v| !matches!(**v, "" | "false" | "0")).map(|v| format!("`{v}`")).collect();
            match harmless.as_slice() {
                [] => "error: not run yet".to_owned(),
                harmless => format!("error: not run yet, except {}", harmless.join(", ")),
            }
        }
        Some(Support::Never(instead)) => format!("error: {instead}"),
        Some(Support::InCluster(instead)) => format!("runs in a cluster; in a manifest an error: {instead}"),
        None => "error: not run".to_owned(),
    }
}

pub(crate) fn name(ty: &Type) -> String {
    match ty {
        Type::Bool => "boolean".to_owned(),
        Type::Int32 | Type::Int64 => "integer".to_owned(),
        Type::Float => "number".to_owned(),
        Type::Str => "string".to_owned(),
        Type::Bytes => "base64".to_owned(),
        Type::Quantity => "quantity".to_owned(),
        Type::Time => "time".to_owned(),
        Type::IntOrString => "integer or string".to_owned(),
        Type::Any => "anything".to_owned(),
        Type::List(item) => format!("list of {}", name(item)),
        Type::Map(item) => format!("map of {}", name(item)),
        Type::Object(object) => (*object).to_owned(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    #[test]
    fn the_committed_tables_are_those_that_the_code_gives() {
        committed(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/kubernetes-support.md"), super::support_table());
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/kubelet-configuration.md");
        committed(path, super::configuration_table());
    }

    #[track_caller]
    fn committed(path: &str, table: String) {
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(path, &table).unwrap();
        }
        let committed = std::fs::read_to_string(path).unwrap_or_default();
        assert!(committed == table, "docs/kubernetes-support.md is out of date: run this test with UPDATE_DOCS=1");
    }
}
