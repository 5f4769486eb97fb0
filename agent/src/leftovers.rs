//! What the engine of a killed run leaves on the host: pod records, pod directories with their mounts, logs.
//!
//! The runtime collects its own first (sandboxes, containers, and the records of runs whose process is gone); what then
//! belongs to no run that is recorded goes here. A pod's record goes last, so whatever fails is found again.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;

use anyhow::{Context as _, bail};

use crate::cli::Global;
use crate::csi;
use crate::engine::memory;
use crate::engine::record::{self, PodRecord, RecordError};
use crate::host::{compat, teardown, volumes};
use crate::net::services::ledger;
use crate::node::desired::disk::{self, Disk};
use crate::record::{name_of, namespace_of};

/// Namespace and name.
type Claim = (String, String);

/// What was done.
#[derive(Debug, Default)]
pub struct Swept {
    /// What is gone.
    pub removed: Vec<String>,
    /// What stays, and why.
    pub spared: Vec<(String, String)>,
    /// What should be gone and is not.
    pub failed: Vec<anyhow::Error>,
}

/// Removes what belongs to no live run; with `all`, everything; with `claims`, what claims hold that no pod mounts.
pub fn sweep(global: &Global, all: bool, claims: bool) -> anyhow::Result<Swept> {
    let (records, unreadable) = record::list(&global.state_dir)?;
    let runs = live_runs(&global.state_dir)?;
    record::sweep(&global.state_dir)?;
    let mut swept = Swept::default();
    let mut kept = BTreeSet::new();
    let mut mounted = BTreeMap::new();
    for record in records {
        if all || !is_live(&record, &runs) {
            let name = format!("record and files of pod {}/{}", namespace_of(&record), name_of(&record));
            let uid = record.pod.metadata.uid.unwrap_or_default();
            swept.note(name, || {
                if record.log_directory.is_absolute() {
                    teardown::remove_pod_logs(&record.log_directory)?;
                }
                remove(global, &uid)
            });
        } else {
            let pod = format!("{}/{}", namespace_of(&record), name_of(&record));
            let reason = |claim| (claim, format!("pod {pod} mounts it"));
            mounted.extend(volumes::claims_of(&record.pod).into_iter().map(reason));
            kept.extend(record.pod.metadata.uid);
        }
    }
    for error in unreadable {
        let uid = uid_of(&error);
        if all {
            swept.note(format!("record and files of pod {uid}"), || remove(global, &uid));
        } else {
            swept.spared.push((format!("pod {uid}"), format!("{error}; --all removes it")));
            kept.insert(uid);
        }
    }
    sweep_orphans(global, &kept, all, runs.is_empty(), &mut swept)?;
    if claims && !all {
        spare_desired(global, &mut mounted)?;
    }
    let desired = disk::directory(&global.root_dir);
    if all && desired.exists() {
        // An agent would start all of it again.
        swept.note("the agent's desired state".into(), || {
            std::fs::remove_dir_all(&desired).with_context(|| format!("remove {}", desired.display()))
        });
    }
    let objects = global.root_dir.join("cluster");
    if all && objects.exists() {
        swept.note("what pods of a cluster referred to".into(), || {
            std::fs::remove_dir_all(&objects).with_context(|| format!("remove {}", objects.display()))
        });
    }
    if all && csi::is_recorded(&global.root_dir) {
        swept.note("what CSI drivers have mounted".into(), || Ok(csi::forget(&global.root_dir)?));
    }
    if all && let Some(dir) = compat::recorded(&global.state_dir)? {
        let what = format!("what makes {} look like a kubelet's", dir.display());
        swept.note(what, || Ok(compat::remove(&global.root_dir, &global.state_dir).map(drop)?));
    }
    if claims {
        sweep_claims(global, &mounted, &mut swept)?;
    }
    let certificates = crate::cluster::certificates::directory(&global.root_dir);
    if all && certificates.exists() {
        swept.note("the node's certificates".into(), || {
            std::fs::remove_dir_all(&certificates).with_context(|| format!("remove {}", certificates.display()))
        });
    }
    let identity = crate::api::Identity::directory(&global.root_dir);
    if all && identity.exists() {
        swept.note("the authority and token of the agent's API".into(), || {
            std::fs::remove_dir_all(&identity).with_context(|| format!("remove {}", identity.display()))
        });
    }
    let addresses = ledger::path(&global.root_dir);
    if all && addresses.exists() {
        swept.note("the addresses of Services".into(), || {
            ledger::forget(&global.root_dir).with_context(|| format!("remove {}", addresses.display()))
        });
    }
    Ok(swept)
}

impl Swept {
    fn note(&mut self, what: String, remove: impl FnOnce() -> anyhow::Result<()>) {
        match remove().with_context(|| format!("remove {what}")) {
            Ok(()) => self.removed.push(what),
            Err(error) => self.failed.push(error),
        }
    }
}

fn is_live(record: &PodRecord, runs: &BTreeSet<String>) -> bool {
    match record.owner.strip_prefix("run:") {
        Some(id) => runs.contains(id),
        None => true,
    }
}

/// The runs that are recorded.
fn live_runs(state_dir: &Path) -> anyhow::Result<BTreeSet<String>> {
    let names = names_in(&state_dir.join("runs"))?;
    Ok(names.iter().filter_map(|name| name.strip_suffix(".json")).map(str::to_owned).collect())
}

fn remove(global: &Global, uid: &str) -> anyhow::Result<()> {
    teardown::remove_pod_dirs(&global.root_dir, uid)?;
    remove_logs(global, uid)?;
    crate::devices::forget(&global.state_dir, uid)?;
    Ok(record::remove(&global.state_dir, uid)?)
}

/// Whose record it is that cannot be read: the file is called UID.json.
fn uid_of(error: &RecordError) -> String {
    let (RecordError::Io { path, .. } | RecordError::Format { path, .. }) = error;
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

/// Pod directories without a record. A run that is just starting may be about to write its records, so they are only
/// removed when there is none. Records are of this boot: an agent's pods, which outlive it, are known by their memory.
fn sweep_orphans(
    global: &Global,
    kept: &BTreeSet<String>,
    all: bool,
    quiet: bool,
    swept: &mut Swept,
) -> anyhow::Result<()> {
    for uid in teardown::orphans(&global.root_dir, kept)? {
        let what = format!("pod directory {uid}");
        if !all && global.root_dir.join("pods").join(&uid).join(memory::FILE).exists() {
            swept.spared.push((what, "it is an agent's, which goes on with it; --all removes it".into()));
            continue;
        }
        if !all && !quiet {
            swept.spared.push((what, "a run is going on, it may be that run's".into()));
            continue;
        }
        swept.note(what, || remove(global, &uid));
    }
    Ok(())
}

/// The claims that an agent's manifests have, and those that a pod of them will mount: it may not have begun, or its agent
/// may not run.
fn spare_desired(global: &Global, spared: &mut BTreeMap<Claim, String>) -> anyhow::Result<()> {
    let (desired, ending, unusable) = Disk::at(&global.root_dir).load().context("read what the agent desires")?;
    if let Some(record) = unusable.first() {
        bail!("{record}: which claims the agent's manifests have is not known; --all removes that, too");
    }
    for (namespace, name) in desired.objects().claims.into_keys() {
        spared.entry((namespace, name)).or_insert_with(|| "a manifest of the agent has it".to_owned());
    }
    for pod in desired.pods().values().map(|pod| &**pod).chain(&ending) {
        for claim in volumes::claims_of(pod) {
            let name = pod.metadata.name.as_deref().unwrap_or_default();
            spared.entry(claim).or_insert_with(|| format!("pod {name} of the agent's manifests mounts it"));
        }
    }
    Ok(())
}

/// What claims hold, unless a pod that stays mounts it or a manifest has it.
fn sweep_claims(global: &Global, spared: &BTreeMap<Claim, String>, swept: &mut Swept) -> anyhow::Result<()> {
    for (namespace, name) in volumes::claims(&global.root_dir)? {
        let what = format!("data of claim {namespace}/{name}");
        match spared.get(&(namespace.clone(), name.clone())) {
            Some(why) => swept.spared.push((what, why.clone())),
            None => swept.note(what, || Ok(volumes::remove_claim(&global.root_dir, &namespace, &name)?)),
        }
    }
    Ok(())
}

/// Log directories are called NAMESPACE_NAME_UID.
fn remove_logs(global: &Global, uid: &str) -> anyhow::Result<()> {
    let ending = format!("_{uid}");
    for name in names_in(&global.log_dir)?.iter().filter(|name| !uid.is_empty() && name.ends_with(&ending)) {
        teardown::remove_pod_logs(&global.log_dir.join(name))?;
    }
    Ok(())
}

fn names_in(dir: &Path) -> anyhow::Result<Vec<String>> {
    let read = || match std::fs::read_dir(dir) {
        Ok(entries) => entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    };
    read().with_context(|| format!("list {}", dir.display()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::fs;

    use serde_json::json;

    use super::*;
    use crate::printer::Color;

    fn node(dir: &Path) -> Global {
        Global {
            root_dir: dir.join("root"),
            state_dir: dir.join("state"),
            log_dir: dir.join("log"),
            cgroup_root: "coracle".into(),
            boot_id: None,
            pod_cidr: vec![],
            default_network: runtime::network::Kind::Flat,
            cni_conf_dir: None,
            cni_bin_dir: vec![],
            cni_timeout: 60,
            service_cidr: vec![],
            non_masquerade_cidr: vec![],
            cluster_domain: None,
            resolv_conf: None,
            registry_config_dir: Vec::new(),
            color: Color::Auto,
        }
    }

    fn pod(global: &Global, uid: &str, owner: Option<&str>) {
        fs::create_dir_all(global.root_dir.join("pods").join(uid).join("volumes")).unwrap();
        fs::create_dir_all(global.log_dir.join(format!("default_web_{uid}")).join("app")).unwrap();
        fs::create_dir_all(global.state_dir.join("pods")).unwrap();
        if let Some(owner) = owner {
            let record = json!({"owner": owner, "metadata": {"name": uid, "namespace": "default", "uid": uid}});
            fs::write(global.state_dir.join(format!("pods/{uid}.json")), record.to_string()).unwrap();
        }
    }

    fn left(dir: &Path) -> Vec<String> {
        let mut names = names_in(dir).unwrap();
        names.sort();
        names
    }

    #[test]
    fn what_belongs_to_no_run_goes_and_the_rest_stays() {
        let dir = tempfile::tempdir().unwrap();
        let global = node(dir.path());
        pod(&global, "dead", Some("run:1"));
        pod(&global, "live", Some("run:2"));
        pod(&global, "agents", Some("agent"));
        pod(&global, "orphan", None);
        pod(&global, "rebooted", None);
        fs::write(global.root_dir.join("pods/rebooted").join(memory::FILE), "{}").unwrap();
        fs::create_dir_all(global.state_dir.join("runs")).unwrap();
        fs::write(global.state_dir.join("runs/2.json"), "{}").unwrap();

        let swept = sweep(&global, false, false).unwrap();
        assert_eq!(swept.removed, ["record and files of pod default/dead"], "{swept:?}");
        assert_eq!(swept.spared.len(), 2, "{swept:?}");
        assert_eq!(left(&global.root_dir.join("pods")), ["agents", "live", "orphan", "rebooted"]);
        assert_eq!(left(&global.state_dir.join("pods")), ["agents.json", "live.json"]);
        let logs = ["default_web_agents", "default_web_live", "default_web_orphan", "default_web_rebooted"];
        assert_eq!(left(&global.log_dir), logs);

        fs::remove_file(global.state_dir.join("runs/2.json")).unwrap();
        let swept = sweep(&global, false, false).unwrap();
        assert_eq!(swept.removed, ["record and files of pod default/live", "pod directory orphan"]);
        assert_eq!(left(&global.log_dir), ["default_web_agents", "default_web_rebooted"]);

        sweep(&global, true, false).unwrap();
        assert!(left(&global.root_dir.join("pods")).is_empty() && left(&global.state_dir.join("pods")).is_empty());
    }

    #[test]
    fn claims_of_the_agents_manifests_stay_although_no_pod_mounts_them() {
        let dir = tempfile::tempdir().unwrap();
        let global = node(dir.path());
        let files = Disk::open(&global.root_dir).map(|_| disk::directory(&global.root_dir).join("files")).unwrap();
        let object = |object| json!({"line": 1, "object": object});
        let record = json!({"version": 1, "source": "/m", "file": "/m/a.yaml", "objects": [
            object(json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "own", "namespace": "shop"}})),
            object(json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web", "namespace": "shop"}, "spec": {
                "containers": [], "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "wanted"}}],
            }})),
        ]});
        fs::write(files.join("a.json"), record.to_string()).unwrap();
        for claim in ["own", "wanted", "idle"] {
            fs::create_dir_all(global.root_dir.join("claims/shop").join(claim)).unwrap();
        }
        let swept = sweep(&global, false, true).unwrap();
        assert_eq!(swept.removed, ["data of claim shop/idle"]);
        let why: Vec<_> = swept.spared.iter().map(|(_, why)| why.as_str()).collect();
        assert_eq!(why, ["a manifest of the agent has it", "pod web of the agent's manifests mounts it"]);
        fs::write(files.join("bad.json"), "{").unwrap();
        assert!(sweep(&global, false, true).is_err(), "nobody knows what it said");
        sweep(&global, true, true).unwrap();
        assert!(!global.root_dir.join("claims").exists());
    }

    #[test]
    fn claims_stay_until_they_are_asked_for_and_no_pod_mounts_them() {
        let dir = tempfile::tempdir().unwrap();
        let global = node(dir.path());
        pod(&global, "u", Some("agent"));
        let spec =
            json!({"containers": [], "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "used"}}]});
        let record =
            json!({"owner": "agent", "metadata": {"name": "web", "namespace": "shop", "uid": "u"}, "spec": spec});
        fs::write(global.state_dir.join("pods/u.json"), record.to_string()).unwrap();
        for claim in ["shop/used", "shop/idle", "default/used"] {
            fs::create_dir_all(global.root_dir.join("claims").join(claim)).unwrap();
        }
        assert_eq!(sweep(&global, false, false).unwrap().removed, Vec::<String>::new());
        let swept = sweep(&global, false, true).unwrap();
        assert_eq!(swept.removed, ["data of claim default/used", "data of claim shop/idle"]);
        assert_eq!(swept.spared, [("data of claim shop/used".to_owned(), "pod shop/web mounts it".to_owned())]);
        assert_eq!(left(&global.root_dir.join("claims")), ["shop"]);
        sweep(&global, true, true).unwrap();
        assert!(!global.root_dir.join("claims").exists());
    }

    #[test]
    fn where_nothing_ever_ran_there_is_nothing_to_do() {
        let dir = tempfile::tempdir().unwrap();
        let swept = sweep(&node(dir.path()), false, false).unwrap();
        assert!(swept.removed.is_empty() && swept.spared.is_empty() && swept.failed.is_empty());
    }

    #[test]
    fn an_unreadable_record_keeps_its_pod() {
        let dir = tempfile::tempdir().unwrap();
        let global = node(dir.path());
        pod(&global, "odd", None);
        fs::write(global.state_dir.join("pods/odd.json"), "{").unwrap();
        let swept = sweep(&global, false, false).unwrap();
        assert_eq!(swept.spared.len(), 1);
        assert!(swept.removed.is_empty(), "{swept:?}");
        assert_eq!(left(&global.root_dir.join("pods")), ["odd"]);
    }
}
