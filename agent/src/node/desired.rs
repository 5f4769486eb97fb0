//! What the node shall run: the last good version of every manifest, and which manifests are not good now.
//!
//! A file is taken whole or not at all. One with an error anywhere leaves what it said before in force, so a typing
//! mistake stops nothing. A pod belongs to the file that had it first; it keeps its uid as long as some file has it,
//! through every change and when it moves to another file.

pub mod bound;
pub mod disk;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock};

use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Pod, Secret};
use manifests::{Located, Manifest, Object, Severity, Source};

use self::bound::{BoundChanges, BoundPods};
use super::sources::{Content, Snapshot};
use crate::engine::config::Objects;
use crate::net::ambassador;

/// Namespace and name of an object.
pub type Name = (String, String);

/// The annotation that says which manifest a pod is from.
pub const FILE: &str = "coracle.dev/file";

/// What the node shall run.
#[derive(Clone, Debug, Default)]
pub struct Desired {
    files: BTreeMap<String, File>,
    /// The sources that there are now; files of others go when each of these has told what it holds.
    sources: BTreeSet<String>,
    /// Why a source cannot be looked at.
    faults: BTreeMap<String, String>,
    /// The sources that have been looked at, since the agent runs.
    looked: BTreeSet<String>,
    /// The pods that an API server has bound to this node.
    bound: BoundPods,
    /// The pods of the files, and those that are bound, made when they are asked for.
    pods: OnceLock<Arc<Pods>>,
}

/// Pods by name.
pub type Pods = BTreeMap<Name, Arc<Pod>>;

/// One manifest.
#[derive(Clone, Debug, Default)]
pub struct File {
    /// The source that it is from.
    pub source: String,
    /// Its objects, as they were when it was good last; the pods as they are run.
    pub good: Vec<Located>,
    /// Why its newest version is not used.
    pub invalid: Option<String>,
    /// What is left out of its newest version without harm.
    pub warnings: Vec<String>,
    /// What was looked at last.
    seen: Option<Content>,
}

/// What a look at a source came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// The files whose objects are others now.
    pub changed: BTreeSet<String>,
    /// The files that are gone.
    pub removed: BTreeSet<String>,
    /// Whether a file has become invalid, or valid again, or is invalid in another way.
    pub judged: bool,
}

/// Gives a pod what an API server would have given it. The second argument is the pod of that name that is there
/// already, whose identity is kept.
pub type Identify<'a> = dyn FnMut(Pod, Option<&Pod>) -> Pod + 'a;

impl Desired {
    /// Takes a look at a source into account.
    pub fn merge(&mut self, snapshot: Snapshot, identify: &mut Identify<'_>) -> Changes {
        let Snapshot { source, files } = snapshot;
        let mut changes = Changes::default();
        let files = match files {
            Ok(files) => files,
            Err(fault) => {
                changes.judged = self.faults.insert(source, fault.clone()).as_ref() != Some(&fault);
                return changes;
            }
        };
        changes.judged = self.faults.remove(&source).is_some();
        self.looked.insert(source.clone());
        let known = self.pods();
        let gone = |name: &String, file: &File| file.source == source && !files.contains_key(name);
        changes.removed =
            self.files.iter().filter(|(name, file)| gone(name, file)).map(|(name, _)| name.clone()).collect();
        let mut open = BTreeSet::new();
        for (name, content) in files {
            let file = self.files.entry(name.clone()).or_default();
            file.source.clone_from(&source);
            let fresh = content != Content::Unfinished && file.seen.as_ref() != Some(&content);
            if fresh {
                file.seen = Some(content);
            }
            if fresh || file.invalid.is_some() {
                open.insert(name);
            }
        }
        if self.knows_all() {
            let stray = |file: &File| !self.sources.contains(&file.source);
            changes.removed.extend(self.files.iter().filter(|(_, file)| stray(file)).map(|(name, _)| name.clone()));
        }
        let hides = |name: &String| self.files.get(name).is_some_and(|file| file.invalid.is_some());
        changes.judged |= changes.removed.iter().any(hides);
        self.files.retain(|name, _| !changes.removed.contains(name));
        self.pods.take();
        // What another source's file was refused for may be gone now.
        open.extend(self.files.iter().filter(|(_, file)| file.invalid.is_some()).map(|(name, _)| name.clone()));
        self.judge(open, &known, identify, &mut changes);
        self.pods.take();
        changes
    }

    /// Reads files that are new or were refused before. Those that only another one keeps from being good are looked at
    /// again when that one has been.
    fn judge(
        &mut self,
        mut open: BTreeSet<String>,
        known: &BTreeMap<Name, Arc<Pod>>,
        identify: &mut Identify<'_>,
        changes: &mut Changes,
    ) {
        loop {
            let before = open.len();
            open.retain(|name| !self.accept(name, known, identify, changes));
            if open.is_empty() || open.len() == before {
                return;
            }
        }
    }

    /// Takes a file's newest version, if it is good.
    fn accept(
        &mut self,
        name: &str,
        known: &BTreeMap<Name, Arc<Pod>>,
        identify: &mut Identify<'_>,
        changes: &mut Changes,
    ) -> bool {
        let Some(content) = self.files.get(name).and_then(|file| file.seen.clone()) else { return true };
        let verdict = read(name, &content).and_then(|manifest| self.conflicts(name, &manifest).map(|()| manifest));
        let Some(file) = self.files.get_mut(name) else { return true };
        match verdict {
            Ok(manifest) => {
                let warnings = manifest.diagnostics.iter().map(|it| it.render(false)).collect();
                let objects = manifest.objects.into_iter().map(|located| identified(located, known, identify));
                let objects: Vec<Located> = objects.collect();
                if file.good != objects {
                    file.good = objects;
                    changes.changed.insert(name.to_owned());
                }
                changes.judged |= file.warnings != warnings || file.invalid.is_some();
                (file.warnings, file.invalid) = (warnings, None);
                true
            }
            Err(why) => {
                changes.judged |= file.invalid.as_ref() != Some(&why);
                file.invalid = Some(why);
                false
            }
        }
    }

    /// An object that another file has belongs to that file.
    fn conflicts(&self, name: &str, manifest: &Manifest) -> Result<(), String> {
        let mut problems = Vec::new();
        for located in &manifest.objects {
            let others =
                self.files.iter().filter(|(other, file)| *other != name && self.sources.contains(&file.source));
            let mut others = others.flat_map(|(_, file)| &file.good);
            let object = name_of(&located.object);
            if matches!(located.object, Object::Pod(_)) && self.bound.runs(&object) {
                let (namespace, object) = object;
                problems.push(format!(
                    "error: Pod {namespace}/{object} is one of the cluster's already; give this one another name\n --> {name}:{}\n",
                    located.line
                ));
            }
            if let Some(other) = others.find(|it| is_same(&it.object, &located.object)) {
                let (kind, (namespace, object)) = (located.object.kind(), name_of(&located.object));
                problems.push(format!(
                    "error: {kind} {namespace}/{object} is already at {}:{}; rename or remove one of them\n --> {name}:{}\n",
                    other.file, other.line, located.line
                ));
            }
        }
        if problems.is_empty() { Ok(()) } else { Err(problems.join("\n")) }
    }

    /// The pods that shall run.
    pub fn pods(&self) -> Arc<Pods> {
        let make = || {
            let objects = self.by_precedence().flat_map(|file| &file.good);
            let pod = |located: &Located| match &located.object {
                Object::Pod(pod) => Some((name_of(&located.object), Arc::new(Pod::clone(pod)))),
                _ => None,
            };
            let mut pods = objects.filter_map(pod).collect();
            self.bound.extend(&mut pods);
            Arc::new(pods)
        };
        Arc::clone(self.pods.get_or_init(make))
    }

    /// The pods that an API server has bound to this node.
    pub fn bound(&self) -> &BoundPods {
        &self.bound
    }

    /// The same, to say what they are to do.
    pub fn bound_mut(&mut self) -> &mut BoundPods {
        self.pods.take();
        &mut self.bound
    }

    /// Takes in what the API server has bound to this node.
    pub fn merge_bound(&mut self, server: &BTreeMap<String, Arc<Pod>>) -> BoundChanges {
        self.pods.take();
        self.bound.merge(server)
    }

    /// Whether a manifest has a pod of that name.
    pub fn has_manifest(&self, name: &Name) -> bool {
        let objects = self.files.values().flat_map(|file| &file.good).map(|located| &located.object);
        objects.into_iter().any(|object| matches!(object, Object::Pod(_)) && name_of(object) == *name)
    }

    /// One object.
    pub fn find(&self, kind: &str, name: &Name) -> Option<&Object> {
        let objects = self.by_precedence().flat_map(|file| &file.good).map(|located| &located.object);
        objects.filter(|object| object.kind() == kind && name_of(object) == *name).last()
    }

    /// Everything that manifests hold; of two objects with one name the last counts.
    pub fn all(&self) -> impl Iterator<Item = &Object> {
        self.by_precedence().flat_map(|file| &file.good).map(|located| &located.object)
    }

    /// What pods may refer to.
    pub fn objects(&self) -> Objects {
        let mut objects = Objects::default();
        for located in self.by_precedence().flat_map(|file| &file.good) {
            let name = name_of(&located.object);
            match &located.object {
                Object::Pod(_)
                | Object::Service(_)
                | Object::NetworkPolicy(_)
                | Object::Network(_)
                | Object::Ambassador(_) => {}
                Object::ConfigMap(map) => drop(objects.config_maps.insert(name, Arc::new(ConfigMap::clone(map)))),
                Object::Secret(secret) => drop(objects.secrets.insert(name, Arc::new(Secret::clone(secret)))),
                Object::PersistentVolumeClaim(claim) => {
                    drop(objects.claims.insert(name, Arc::new(PersistentVolumeClaim::clone(claim))));
                }
            }
        }
        objects
    }

    /// The manifests, by path.
    pub fn files(&self) -> &BTreeMap<String, File> {
        &self.files
    }

    /// Why sources cannot be looked at.
    pub fn faults(&self) -> &BTreeMap<String, String> {
        &self.faults
    }

    /// Whether every source has told what it holds, since the agent runs.
    pub fn knows_all(&self) -> bool {
        self.sources.iter().all(|source| self.looked.contains(source))
    }

    /// Sets the sources that there are.
    pub fn set_sources(&mut self, sources: BTreeSet<String>) {
        self.sources = sources;
        self.pods.take();
    }

    /// The files of sources that are no more, then the others, whose objects go before theirs.
    fn by_precedence(&self) -> impl Iterator<Item = &File> {
        let stray = |file: &&File| !self.sources.contains(&file.source);
        self.files.values().filter(stray).chain(self.files.values().filter(move |file| !stray(file)))
    }

    /// Puts another pod of the same name in the place of one; the file that it is in.
    pub fn replace(&mut self, name: &Name, pod: Pod) -> Option<String> {
        self.pods.take();
        for (path, file) in &mut self.files {
            for located in &mut file.good {
                if name_of(&located.object) == *name
                    && let Object::Pod(there) = &mut located.object
                {
                    **there = pod;
                    return Some(path.clone());
                }
            }
        }
        None
    }
}

fn identified(mut located: Located, known: &BTreeMap<Name, Arc<Pod>>, identify: &mut Identify<'_>) -> Located {
    let name = name_of(&located.object);
    if let Object::Pod(pod) = &mut located.object {
        **pod = identify(std::mem::take(pod), known.get(&name).map(Arc::as_ref));
        pod.metadata.annotations.get_or_insert_default().insert(FILE.into(), located.file.clone());
    }
    located
}

/// The objects of a manifest, or why it cannot be used.
fn read(name: &str, content: &Content) -> Result<Manifest, String> {
    let text = match content {
        Content::Text(text) => text,
        Content::Unreadable(why) => return Err(format!("error: {name} {why}\n")),
        Content::Unfinished => return Ok(Manifest::default()),
    };
    let manifest = ambassador::read(&[Source { name: name.to_owned(), text: text.to_string() }]);
    let errors: Vec<String> =
        manifest.diagnostics.iter().filter(|it| it.severity == Severity::Error).map(|it| it.render(false)).collect();
    if !errors.is_empty() {
        return Err(errors.join("\n"));
    }
    // Emptied by accident, or about to be written: whoever means to remove pods removes the file.
    if manifest.objects.is_empty() {
        let said: Vec<String> = manifest.diagnostics.iter().map(|it| it.render(false)).collect();
        return Err(format!(
            "error: {name} has no object that is run; remove the file to remove its pods\n{}",
            said.join("\n")
        ));
    }
    Ok(manifest)
}

/// Whether two objects cannot both be.
fn is_same(one: &Object, other: &Object) -> bool {
    let (a, b) = (one.metadata(), other.metadata());
    one.kind() == other.kind() && a.name == b.name && name_of(one) == name_of(other)
}

/// Namespace and name of an object.
pub fn name_of(object: &Object) -> Name {
    let meta = object.metadata();
    (meta.namespace.clone().unwrap_or_else(|| "default".into()), meta.name.clone().unwrap_or_default())
}
