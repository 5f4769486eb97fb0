//! From sources to objects.

use crate::diagnostic::Severity::{Error, Warning};
use crate::kinds::{self, Class};
use crate::path::{Path, entry_mark};
use crate::report::Report;
use crate::suggest::{clip, nearest};
use crate::yaml::{self, Entry, Mark, Node, Scalar, Tree};
use crate::{Diagnostic, Located, Manifest, Object, Severity, Source, check, defaults, validate};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::collections::HashMap;

/// Reads every document of every source and reports everything that is wrong with any of them.
///
/// Objects with an error are left out, so an object that is there is valid. A caller that creates anything while
/// [`Manifest::has_errors`] holds would run a part of what was written.
pub fn read(sources: &[Source]) -> Manifest {
    Reader::default().all(sources)
}

/// Reads what the API server of a cluster wants: as [`read`], and what only such a server can give runs, too.
pub fn read_of_cluster(sources: &[Source]) -> Manifest {
    Reader { of_cluster: true, ..Reader::default() }.all(sources)
}

#[derive(Default)]
struct Reader {
    manifest: Manifest,
    /// Where each object was first defined, by kind, namespace and name.
    seen: HashMap<(&'static str, String, String), (String, usize)>,
    of_cluster: bool,
}

/// One object in the text: its tree, and the path to it from the root of its document (`items[0]` in a list).
struct Candidate<'a> {
    root: &'a Node,
    node: &'a Node,
    path: Path,
    /// `apiVersion` and `kind`, where they need not be written: in a list of one kind.
    implied: Option<(&'a str, &'a str)>,
}

impl Reader {
    fn all(mut self, sources: &[Source]) -> Manifest {
        sources.iter().for_each(|source| self.source(source));
        self.manifest
    }

    fn source(&mut self, source: &Source) {
        let mut report = Report::new(&source.name, &source.text).of_cluster(self.of_cluster);
        let (documents, faults) = yaml::parse(&source.text);
        let broken = faults.iter().any(|fault| !fault.warning);
        for fault in faults {
            let severity = if fault.warning { Warning } else { Error };
            report.add(severity, fault.at, &Path::default(), fault.message, fault.help);
        }
        let before = self.manifest.objects.len();
        let mut any = broken;
        for document in &documents {
            if document.is_null() {
                continue;
            }
            any = true;
            self.object(
                Candidate { root: document, node: document, path: Path::default(), implied: None },
                &mut report,
            );
        }
        if !any {
            let at = Mark { line: 1, column: 1, width: 1 };
            report.add(Warning, at, &Path::default(), "there is no object in this file", None);
        }
        for located in &mut self.manifest.objects[before..] {
            located.file.clone_from(&source.name);
        }
        self.manifest.diagnostics.extend(report.finish());
    }

    fn object(&mut self, candidate: Candidate<'_>, report: &mut Report<'_>) {
        let (node, path) = (candidate.node, &candidate.path);
        let Tree::Map(entries) = &node.tree else {
            let help = "a manifest begins with `apiVersion:` and `kind:`".to_owned();
            report.add(Error, node.at, path, "expected an object", Some(help));
            return;
        };
        let Some((api_version, kind)) = type_of(&candidate, entries, report) else { return };
        match kinds::classify(&api_version, &kind) {
            Class::Runs(kind) => self.typed(kind, &candidate, report),
            Class::List => {
                let item = kind.strip_suffix("List").filter(|kind| !kind.is_empty());
                let implied = item.map(|item| (api_version.as_str(), item));
                self.list(entries, &Candidate { implied, ..candidate }, report);
            }
            Class::NotYet => {
                let at = mark_of(entries, "kind").unwrap_or(node.at);
                let help = Some(format!("what runs: {}", kinds::run().collect::<Vec<_>>().join(", ")));
                report.add(Warning, at, &path.field("kind"), format!("{kind} is not run yet: left out"), help);
            }
            Class::WrongVersion(version) => {
                let at = mark_of(entries, "apiVersion").unwrap_or(node.at);
                let message = format!("there is no {} in `{}`", clip(&kind), clip(&api_version));
                report.add(Error, at, &path.field("apiVersion"), message, Some(format!("write `{version}`")));
            }
            Class::Unknown(near) => {
                let at = mark_of(entries, "kind").unwrap_or(node.at);
                let help = near.map(|near| format!("did you mean `{near}`?"));
                report.add(Error, at, &path.field("kind"), format!("unknown kind `{}`", clip(&kind)), help);
            }
        }
    }

    fn list(&mut self, entries: &[Entry], list: &Candidate<'_>, report: &mut Report<'_>) {
        let (root, path) = (list.root, &list.path);
        for entry in entries {
            match (entry.key.as_str(), &entry.value.tree) {
                ("apiVersion" | "kind" | "metadata", _) => {}
                ("items", Tree::List(items)) => {
                    for (index, node) in items.iter().enumerate() {
                        let path = path.field("items").index(index);
                        self.object(Candidate { root, node, path, implied: list.implied }, report);
                    }
                }
                ("items", Tree::Scalar { meaning: Scalar::Null, .. }) => {}
                ("items", _) => report.add(Error, entry_mark(entry), &path.field("items"), "expected a list", None),
                (other, _) => {
                    let help = nearest(other, ["items", "metadata"]).map(|near| format!("did you mean `{near}`?"));
                    report.add(Error, entry.at, &path.field(other), format!("unknown field `{}`", clip(other)), help);
                }
            }
        }
        if !entries.iter().any(|entry| entry.key == "items" || nearest(&entry.key, ["items"]).is_some()) {
            report.add(Error, list.node.at, &path.field("items"), "`items` is missing", None);
        }
    }

    fn typed(&mut self, kind: &'static str, candidate: &Candidate<'_>, report: &mut Report<'_>) {
        report.next_object();
        let before = report.len();
        // Within a list, the paths of an item are those of the whole document.
        let json = check::object(kind, candidate.node, &candidate.path, report);
        let object = match kind {
            "Pod" => typed(json, Object::Pod),
            "ConfigMap" => typed(json, Object::ConfigMap),
            "PersistentVolumeClaim" => typed(json, Object::PersistentVolumeClaim),
            "Service" => typed(json, Object::Service),
            "NetworkPolicy" => typed(json, Object::NetworkPolicy),
            "Network" => typed(json, Object::Network),
            "Ambassador" => typed(json, Object::Ambassador),
            _ => typed(json, Object::Secret),
        };
        let mut object = match object {
            Ok(object) => object,
            Err(error) => {
                // The schema is made from the types, so this is a fault of the schema; it must not pass for a success.
                report.add(Error, candidate.node.at, &candidate.path, format!("not a {kind}: {error}"), None);
                return;
            }
        };
        validate::object(&object, candidate.root, &candidate.path, report);
        defaults::apply(&mut object);
        self.duplicate(kind, &object, candidate, report);
        if !report.errors_since(before) {
            self.manifest.objects.push(Located { object, file: String::new(), line: candidate.node.at.line });
        }
    }

    fn duplicate(&mut self, kind: &'static str, object: &Object, candidate: &Candidate<'_>, report: &mut Report<'_>) {
        let (Some(namespace), Some(name)) = (object.metadata().namespace.clone(), object.metadata().name.clone())
        else {
            return;
        };
        let path = candidate.path.field("metadata").field("name");
        let (at, _) = path.locate(candidate.root);
        let here = (report.file().to_owned(), at.line);
        for (kind, name) in names(kind, name) {
            let key = (kind, namespace.clone(), name);
            if let Some((file, line)) = self.seen.get(&key) {
                let message = format!("{kind} {namespace}/{} is defined twice", key.2);
                report.add(Error, at, &path, message, Some(format!("the first is at {file}:{line}")));
                return;
            }
            self.seen.insert(key, here.clone());
        }
    }
}

/// The names that an object takes: an Ambassador becomes a pod of its name, and a ConfigMap for it.
fn names(kind: &'static str, name: String) -> Vec<(&'static str, String)> {
    match kind {
        "Ambassador" => {
            let config = crate::ambassador::config_map_name(&name);
            vec![(kind, name.clone()), ("Pod", name), ("ConfigMap", config)]
        }
        kind => vec![(kind, name)],
    }
}

fn typed<T: DeserializeOwned>(json: Value, object: fn(Box<T>) -> Object) -> serde_json::Result<Object> {
    serde_json::from_value(json).map(|value| object(Box::new(value)))
}

fn mark_of(entries: &[Entry], name: &str) -> Option<Mark> {
    entries.iter().find(|entry| entry.key == name).map(entry_mark)
}

/// `apiVersion` and `kind`, or what is wrong with them.
fn type_of(candidate: &Candidate<'_>, entries: &[Entry], report: &mut Report<'_>) -> Option<(String, String)> {
    let Candidate { node, path, implied, .. } = candidate;
    let mut read = |name: &str, example: &str, implied: Option<&str>| {
        let path = path.field(name);
        match entries.iter().find(|entry| entry.key == name) {
            Some(Entry { value: Node { tree: Tree::Scalar { text, meaning: Scalar::Str }, .. }, .. }) => {
                Some(text.clone())
            }
            Some(entry) if !entry.value.is_null() => {
                report.add(Error, entry_mark(entry), &path, "expected a string", Some(format!("such as `{example}`")));
                None
            }
            None if implied.is_some() => implied.map(str::to_owned),
            _ => {
                let typo = entries.iter().find(|entry| nearest(&entry.key, [name]).is_some());
                match typo {
                    Some(typo) => {
                        let message = format!("unknown field `{}`", clip(&typo.key));
                        report.add(Error, typo.at, &path, message, Some(format!("did you mean `{name}`?")));
                    }
                    None => {
                        let help = Some(format!("add `{name}: {example}`"));
                        report.add(Error, node.at, &path, format!("`{name}` is missing"), help);
                    }
                }
                None
            }
        }
    };
    let (api_version, kind) =
        (read("apiVersion", "v1", implied.map(|t| t.0)), read("kind", "Pod", implied.map(|t| t.1)));
    api_version.zip(kind)
}

impl Manifest {
    /// Whether anything speaks against creating the objects; `strict` makes every warning an error.
    pub fn has_errors(&self, strict: bool) -> bool {
        self.diagnostics.iter().any(|diagnostic| strict || diagnostic.severity == Severity::Error)
    }

    /// The errors and the warnings, counted.
    pub fn count(&self) -> (usize, usize) {
        let errors = self.diagnostics.iter().filter(|d: &&Diagnostic| d.severity == Error).count();
        (errors, self.diagnostics.len() - errors)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_api_server_writes_into_a_container_for_debugging_is_no_error() {
        let text = |resources: &str| {
            format!(
                "{{apiVersion: v1, kind: Pod, metadata: {{name: p}}, spec: {{containers: [{{name: c, image: i}}],
                ephemeralContainers: [{{name: e, image: i, resources: {resources}, targetContainerName: c}}]}}}}"
            )
        };
        let errors = |resources| read_of_cluster(&[Source { name: "p".to_owned(), text: text(resources) }]).count().0;
        assert_eq!(errors("{}"), 0);
        assert_eq!(errors("{limits: {memory: 1Mi}}"), 1);
    }

    #[test]
    fn what_only_an_api_server_can_give_runs_where_one_asks_for_it() {
        let text =
            "{apiVersion: v1, kind: Pod, metadata: {name: p}, spec: {containers: [{name: c, image: i}], volumes: [
            {name: v, projected: {sources: [{serviceAccountToken: {path: token, expirationSeconds: 3607}}]}},
            {name: w, ephemeral: {volumeClaimTemplate: {spec: {accessModes: [ReadWriteOnce], storageClassName: s,
              resources: {requests: {storage: 1Gi}}, volumeMode: Block}}}}]}}";
        let source = || [Source { name: "p".to_owned(), text: text.to_owned() }];
        let errors = |manifest: &Manifest| manifest.count().0;
        let of_cluster = read_of_cluster(&source());
        assert_eq!(errors(&of_cluster), 0, "{:?}", of_cluster.diagnostics);
        assert_eq!(of_cluster.objects.len(), 1);
        assert_eq!(errors(&read(&source())), 2);
    }

    #[test]
    fn devices_are_for_a_cluster_s_pods() {
        let errors = |read: fn(&[Source]) -> Manifest, resources: &str| {
            let text = format!(
                "{{apiVersion: v1, kind: Pod, metadata: {{name: p}},
                spec: {{containers: [{{name: c, image: i, resources: {resources}}}]}}}}"
            );
            read(&[Source { name: "p".to_owned(), text }]).count().0
        };
        let rows = [
            ("{limits: {example.com/gpu: 1}}", 0),
            ("{limits: {example.com/gpu: 2}, requests: {example.com/gpu: 2}}", 0),
            ("{limits: {example.com/gpu: 2}, requests: {example.com/gpu: 1}}", 1),
            ("{limits: {x.kubernetes.io/gpu: 1}}", 1),
            ("{limits: {requests.example.com/gpu: 1}}", 1),
            ("{limits: {example.com/a/b: 1}}", 1),
        ];
        for (resources, of_cluster) in rows {
            assert_eq!(errors(read_of_cluster, resources), of_cluster, "{resources}");
            assert!(errors(read, resources) > 0, "{resources}");
        }
    }
}
