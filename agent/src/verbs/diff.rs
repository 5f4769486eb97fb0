//! `coracle diff`

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use k8s_openapi::api::core::v1::Pod;
use manifests::Object;

use crate::cli::Global;
use crate::engine::plan::preview;
use crate::failure::BAD_INPUT;
use crate::net::ambassador;
use crate::node::desired::disk::Disk;
use crate::node::desired::{Desired, FILE, name_of};
use crate::printer::Printer;
use crate::sources;

/// Flags of `diff`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Manifests as they shall be: files, directories, or - for standard input
    #[arg(required = true, value_name = "FILE|DIR|-")]
    paths: Vec<PathBuf>,
}

/// Shows what manifests would change of what the agent runs; 1 when they would change anything.
pub fn main(args: Args, global: &Global) -> anyhow::Result<ExitCode> {
    let paths = args
        .paths
        .iter()
        .map(|path| if path.as_os_str() == "-" { Ok(path.clone()) } else { std::path::absolute(path) });
    let paths = paths.collect::<Result<Vec<_>, _>>().context("find the manifests")?;
    let manifest = ambassador::read(&sources::load(&paths)?);
    let color = global.color.wanted(&std::io::stderr());
    for diagnostic in &manifest.diagnostics {
        anstream::eprintln!("{}\n", diagnostic.render(color).trim_end_matches('\n'));
    }
    if manifest.has_errors(false) {
        return Ok(ExitCode::from(BAD_INPUT));
    }
    let (desired, _, unusable) = Disk::at(&global.root_dir).load().context("read what the agent runs")?;
    for record in unusable {
        anstream::eprintln!("warning: {record}");
    }
    let objects: Vec<Object> = manifest.objects.into_iter().map(|located| located.object).collect();
    let lines = changes(&desired, objects, &paths);
    let mut printer = Printer::stdout();
    for line in &lines {
        printer.line(line)?;
    }
    Ok(if lines.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

/// What becomes of each object that is not as it was, where `paths` are to hold these and no others.
pub(super) fn changes(desired: &Desired, objects: Vec<Object>, paths: &[PathBuf]) -> Vec<String> {
    let mut lines = Vec::new();
    let wanted: Vec<_> = objects.iter().map(|object| (object.kind(), name_of(object))).collect();
    for object in objects {
        let (kind, (namespace, name)) = (object.kind(), name_of(&object));
        let there = desired.find(kind, &(namespace.clone(), name.clone()));
        match (object, there) {
            (_, None) => lines.push(format!("{kind} {namespace}/{name} is new")),
            (Object::Pod(new), Some(Object::Pod(old))) => {
                let changes = preview(old, &like(old, *new));
                lines.extend(changes.iter().map(|change| format!("{kind} {namespace}/{name}: {change}")));
            }
            (object, Some(there)) if object != *there => {
                lines.push(format!("{kind} {namespace}/{name} has another content"))
            }
            _ => {}
        }
    }
    for (path, file) in desired.files() {
        let given =
            paths.iter().any(|given| given.as_os_str() == path.as_str() || given.as_os_str() == file.source.as_str());
        for located in file.good.iter().filter(|_| given) {
            let (kind, (namespace, name)) = (located.object.kind(), name_of(&located.object));
            if !wanted.contains(&(kind, (namespace.clone(), name.clone()))) {
                let end = if kind == "Pod" { "stops, and is removed" } else { "is removed" };
                lines.push(format!("{kind} {namespace}/{name} {end}"));
            }
        }
    }
    lines
}

/// The pod as the agent would run it in the place of another one.
fn like(old: &Pod, mut new: Pod) -> Pod {
    new.metadata.uid.clone_from(&old.metadata.uid);
    if let Some(file) = old.metadata.annotations.as_ref().and_then(|it| it.get(FILE)) {
        new.metadata.annotations.get_or_insert_default().insert(FILE.to_owned(), file.clone());
    }
    let node = old.spec.as_ref().and_then(|spec| spec.node_name.clone());
    let spec = new.spec.get_or_insert_default();
    spec.node_name = spec.node_name.take().or(node);
    new
}
