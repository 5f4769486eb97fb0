//! `coracle apply`: puts manifests into the directory that the agent follows, each whole or not at all.

use std::collections::BTreeSet;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use manifests::{Manifest, Object, Source};
use runtime::store::{self, Durability};

use super::diff;
use crate::cli::Global;
use crate::failure::BAD_INPUT;
use crate::net::ambassador;
use crate::node::desired::disk::Disk;
use crate::node::desired::{Desired, Name, name_of};
use crate::node::sources::Place;
use crate::printer::Printer;
use crate::sources::{self, is_manifest};

/// Flags of `apply`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Manifests: files, directories, or - for standard input; may be given several times
    #[arg(short, long = "filename", required = true, value_name = "FILE|DIR|-")]
    filenames: Vec<PathBuf>,
    /// Show what would change, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Also remove what the file in the directory has and the one that is applied has not
    #[arg(long)]
    prune: bool,
}

/// Which file of the directory a manifest becomes.
struct Target {
    path: PathBuf,
    text: String,
    manifest: Manifest,
}

/// Validates the manifests, shows what they change, and writes them.
pub fn main(args: Args, global: &Global) -> anyhow::Result<ExitCode> {
    let directory = directory(global)?;
    let (desired, _, unusable) = Disk::at(&global.root_dir).load().context("read what the agent runs")?;
    for record in unusable {
        anstream::eprintln!("warning: {record}");
    }
    let sources = sources::load(&args.filenames)?;
    let color = global.color.wanted(&std::io::stderr());
    // All of them together first: two files with one object are a mistake, too.
    let all = ambassador::read(&sources);
    for diagnostic in &all.diagnostics {
        anstream::eprintln!("{}\n", diagnostic.render(color).trim_end_matches('\n'));
    }
    if all.has_errors(false) {
        anstream::eprintln!("nothing was written");
        return Ok(ExitCode::from(BAD_INPUT));
    }
    let targets = sources.into_iter().map(|source| target(&directory, &desired, source));
    let targets = targets.collect::<anyhow::Result<Vec<_>>>()?;
    let mut taken = BTreeSet::new();
    if let Some(twice) = targets.iter().find(|target| !taken.insert(&target.path)) {
        bail!("two of the manifests would become {}; rename one of them", twice.path.display());
    }
    let mut printer = Printer::stdout();
    for target in targets {
        put(target, &desired, &args, &mut printer)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The one directory that the agent follows.
fn directory(global: &Global) -> anyhow::Result<PathBuf> {
    let places = Place::recorded(&global.state_dir).context("find out what the agent follows")?;
    let Some(places) = places else {
        bail!("no agent has run since the last boot; start one with: coracle agent --pod-manifest-path DIR");
    };
    let directory = places.iter().find_map(|place| match place {
        Place::Path(path) if path.is_dir() => Some(path.clone()),
        _ => None,
    });
    let named: Vec<String> = places.iter().map(Place::name).collect();
    directory.with_context(|| {
        format!(
            "the agent follows {}, which is no directory: change the manifest where it comes from",
            named.join(", ")
        )
    })
}

/// The file of a manifest: the one that has its objects already, else one of its own name.
fn target(directory: &Path, desired: &Desired, source: Source) -> anyhow::Result<Target> {
    let manifest = ambassador::read(std::slice::from_ref(&source));
    let Some(first) = manifest.objects.first() else { bail!("{} has no object that is run", source.name) };
    let mut known: BTreeSet<&str> = BTreeSet::new();
    for located in &manifest.objects {
        known.extend(file_of(desired, located.object.kind(), &name_of(&located.object)));
    }
    let path = match known.iter().collect::<Vec<_>>().as_slice() {
        [] => directory.join(file_name(&source.name, &first.object)),
        [file] if Path::new(file).parent() == Some(directory) => PathBuf::from(file),
        [file] => {
            bail!("{} has objects of {file}, which is not in {}; change them there", source.name, directory.display())
        }
        files => bail!(
            "{} has objects of several files: {}; apply a manifest for each of them",
            source.name,
            files.iter().map(|file| **file).collect::<Vec<_>>().join(", ")
        ),
    };
    Ok(Target { path, text: source.text, manifest })
}

/// The file that an object is in.
fn file_of<'d>(desired: &'d Desired, kind: &str, name: &Name) -> Option<&'d str> {
    let has = |object: &Object| object.kind() == kind && name_of(object) == *name;
    let mut files = desired.files().iter();
    files.find(|(_, file)| file.good.iter().any(|located| has(&located.object))).map(|(path, _)| path.as_str())
}

/// The name of a file for a manifest that is not in the directory yet.
fn file_name(source: &str, first: &Object) -> String {
    let given = Path::new(source).file_name().map(|name| name.to_string_lossy().into_owned());
    match given.filter(|name| is_manifest(Path::new(name))) {
        Some(name) => name,
        None => {
            let (namespace, name) = name_of(first);
            format!("{}-{namespace}-{name}.yaml", first.kind().to_lowercase())
        }
    }
}

/// Shows what one file changes, and writes it.
fn put(target: Target, desired: &Desired, args: &Args, printer: &mut Printer<impl Write>) -> anyhow::Result<()> {
    let Target { path, text, manifest } = target;
    let there = match std::fs::read(&path) {
        Ok(bytes) => Some(bytes),
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => return Err(error).with_context(|| format!("read {}", path.display())),
    };
    if there.as_deref() == Some(text.as_bytes()) {
        return Ok(printer.line(format_args!("{} is unchanged", path.display()))?);
    }
    let file = path.display().to_string();
    let lost: Vec<String> = desired.files().get(&file).map(|file| missing(&manifest, &file.good)).unwrap_or_default();
    if there.is_some() && !desired.files().contains_key(&file) {
        bail!("{file} is there, and the agent has not read it yet or cannot; see: coracle get pods");
    }
    for change in
        diff::changes(desired, manifest.objects.into_iter().map(|it| it.object).collect(), std::slice::from_ref(&path))
    {
        printer.line(change)?;
    }
    if !lost.is_empty() && !args.prune {
        bail!("{file} also has {}; add --prune to remove that, or keep it in the manifest", lost.join(", "));
    }
    if args.dry_run {
        return Ok(printer.line(format_args!("{file} would be written (--dry-run)"))?);
    }
    let directory = path.parent().context("the file is in no directory")?;
    let name = path.file_name().and_then(|name| name.to_str()).context("the file has no name")?;
    store::write_file(directory, name, text.as_bytes(), Durability::Durable)
        .with_context(|| format!("write {file}"))?;
    Ok(printer.line(format_args!("{file} is {}", if there.is_some() { "changed" } else { "new" }))?)
}

/// What a file has now and would not have any more.
fn missing(manifest: &Manifest, good: &[manifests::Located]) -> Vec<String> {
    let key = |located: &manifests::Located| (located.object.kind(), name_of(&located.object));
    let wanted: Vec<_> = manifest.objects.iter().map(key).collect();
    let gone = good.iter().map(key).filter(|key| !wanted.contains(key));
    gone.map(|(kind, (namespace, name))| format!("{kind} {namespace}/{name}")).collect()
}
