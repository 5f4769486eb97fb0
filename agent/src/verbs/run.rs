//! `coracle run`: pods from manifests, in the foreground.
//!
//! Everything is read and checked first; only then is anything made. The pods' output goes through here line by line.
//! When every pod has ended, or was told to, all of them are removed together, so that `get` and `logs` still answer
//! for those that ended early.

mod around;
mod lines;
mod output;
mod session;
mod voices;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use manifests::{Manifest, Object};

use crate::cli::Global;
use crate::engine::backoff::Policy;
use crate::engine::check::{check, port_clashes};
use crate::engine::config::names::PodKey;
use crate::engine::config::{Objects, Settings};
use crate::failure::BAD_INPUT;
use crate::host::node;
use crate::identity::new_uid;
use crate::net::Declared;
use crate::net::ambassador;
use crate::node::order::Order;
use crate::privilege::require_root;
use crate::sources;
use runtime::zygote::Zygote;

/// Flags of `run`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Run this pod of the manifests alone; may be given several times
    #[arg(long, value_name = "POD")]
    name: Vec<String>,
    /// Treat warnings as errors
    #[arg(long)]
    strict: bool,
    /// How long to wait between restarts, such as initial=1s,max=1m,reset=10m
    #[arg(long, value_name = "POLICY", default_value = "initial=10s,max=5m,reset=10m")]
    restart_backoff: Policy,
    /// Manifests: files, directories, or - for standard input
    #[arg(required = true, value_name = "FILE|DIR|-")]
    paths: Vec<PathBuf>,
}

/// Runs the pods to their end.
pub fn main(args: Args, global: &Global, zygote: Option<std::io::Result<Zygote>>) -> anyhow::Result<ExitCode> {
    let zygote = zygote.transpose().context("prepare to start containers")?;
    let manifest = ambassador::read(&sources::load(&args.paths)?);
    let color = global.color.wanted(&std::io::stderr());
    for diagnostic in &manifest.diagnostics {
        anstream::eprintln!("{}\n", diagnostic.render(color).trim_end_matches('\n'));
    }
    if manifest.has_errors(args.strict) {
        return Ok(ExitCode::from(BAD_INPUT));
    }
    let settings = Settings::of(global, node::facts())?;
    let (pods, objects, declared) = match choose(manifest, &args.name, &settings) {
        Ok(chosen) => chosen,
        Err(problems) => {
            for problem in problems {
                anstream::eprintln!("error: {problem}");
            }
            return Ok(ExitCode::from(BAD_INPUT));
        }
    };
    require_root("running pods")?;
    let pods = pods.into_iter().map(|pod| identify(pod, &settings)).collect::<Result<Vec<_>, _>>()?;
    let rt = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("start the async runtime")?;
    let outcome = rt.block_on(session::run(session::Plan {
        global: global.clone(),
        settings,
        objects,
        declared,
        pods,
        backoff: args.restart_backoff,
        zygote,
    }));
    // A printer that is stuck on a stopped terminal must not keep the process.
    rt.shutdown_background();
    outcome.map(ExitCode::from)
}

/// The pods to run and the objects that they may refer to; or everything that is wrong with them.
fn choose(
    manifest: Manifest,
    names: &[String],
    settings: &Settings,
) -> Result<(Vec<Pod>, Objects, Declared), Vec<String>> {
    let declared = Declared::of(manifest.objects.iter().map(|located| &located.object));
    let mut objects = Objects::default();
    let mut pods: BTreeMap<(String, String), (Pod, String)> = BTreeMap::new();
    let mut problems = Vec::new();
    for located in manifest.objects {
        let place = format!("{}:{}", located.file, located.line);
        let meta = located.object.metadata();
        let key = (meta.namespace.clone().unwrap_or_else(|| "default".into()), meta.name.clone().unwrap_or_default());
        match located.object {
            Object::ConfigMap(map) => drop(objects.config_maps.insert(key, Arc::new(*map))),
            Object::Secret(secret) => drop(objects.secrets.insert(key, Arc::new(*secret))),
            Object::PersistentVolumeClaim(claim) => drop(objects.claims.insert(key, Arc::new(*claim))),
            Object::Service(_) | Object::NetworkPolicy(_) | Object::Network(_) => {}
            // The pod that it means stands in its place.
            Object::Ambassador(_) => {}
            Object::Pod(_) if !names.is_empty() && !names.contains(&key.1) => {}
            Object::Pod(pod) => match pods.get(&key) {
                Some((_, first)) => {
                    problems.push(format!("{place}: pod {}/{} is already at {first}; rename one", key.0, key.1));
                }
                None => drop(pods.insert(key, (*pod, place))),
            },
        }
    }
    for name in names {
        if !pods.keys().any(|(_, known)| known == name) {
            problems.push(format!("no pod is called \"{name}\""));
        }
    }
    if pods.is_empty() && problems.is_empty() {
        problems.push("there is no pod in these manifests".to_owned());
    }
    for (pod, place) in pods.values() {
        let name = PodKey::of(pod).name;
        problems.extend(check(pod, &objects, settings).iter().map(|problem| format!("{place}: pod {name}: {problem}")));
    }
    let places: Vec<(&Pod, &str)> = pods.values().map(|(pod, place)| (pod, place.as_str())).collect();
    problems.extend(port_clashes(&places));
    problems.extend(cycles(&pods));
    let pods = pods.into_values().map(|(pod, _)| pod).collect();
    if problems.is_empty() { Ok((pods, objects, declared)) } else { Err(problems) }
}

/// Pods that wait for themselves, and would do so for ever.
fn cycles(pods: &BTreeMap<(String, String), (Pod, String)>) -> Vec<String> {
    let shared: BTreeMap<_, _> = pods.iter().map(|(name, (pod, _))| (name.clone(), Arc::new(pod.clone()))).collect();
    let order = Order::of(&shared);
    let place = |name| pods.get(name).map(|(_, place)| place.as_str()).unwrap_or_default();
    order.cycles().map(|(name, gate)| format!("{}: pod {}: {}", place(name), name.1, gate.message)).collect()
}

/// What an API server would have given the pod.
fn identify(mut pod: Pod, settings: &Settings) -> anyhow::Result<Pod> {
    let meta = &mut pod.metadata;
    meta.namespace.get_or_insert_with(|| "default".into());
    // Each run's pods are new ones, whatever the manifest says.
    meta.uid = Some(new_uid()?);
    meta.creation_timestamp = Timestamp::from_second(Timestamp::now().as_second()).ok().map(Time);
    pod.spec.get_or_insert_default().node_name.get_or_insert_with(|| settings.node.name.clone());
    Ok(pod)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use manifests::Source;

    fn chosen(text: &str, names: &[&str]) -> Result<Vec<String>, Vec<String>> {
        let manifest = manifests::read(&[Source { name: "f.yaml".into(), text: text.into() }]);
        assert!(!manifest.has_errors(false), "{:?}", manifest.diagnostics);
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let (pods, ..) = choose(manifest, &names, &Settings::default())?;
        Ok(pods.iter().map(|pod| PodKey::of(pod).name).collect())
    }

    fn pod(name: &str) -> String {
        format!(
            "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec: {{containers: [{{name: c, image: i}}]}}\n"
        )
    }

    #[test]
    fn pods_that_wait_for_themselves_are_refused() {
        let linked = |name: &str, to: &str| {
            pod(name).replace("}\nspec", &format!(", annotations: {{coracle.dev/links: {to}}}}}\nspec"))
        };
        let problems = chosen(&(linked("a", "b") + &linked("b", "a")), &[]).unwrap_err();
        assert_eq!(problems.len(), 2, "{problems:?}");
        let first = "f.yaml:2: pod a: default/a linked to default/b linked to default/a: none of them can be the first; \
                     write b(ungated) in coracle.dev/links of pod default/a";
        assert_eq!(problems[0], first);
        assert_eq!(chosen(&(linked("a", "b(ungated)") + &linked("b", "a")), &[]).unwrap(), ["a", "b"]);
        assert_eq!(chosen(&linked("a", "elsewhere.far"), &[]).unwrap(), ["a"]);
    }

    #[test]
    fn pods_are_chosen_by_name() {
        let text = pod("a") + &pod("b");
        assert_eq!(chosen(&text, &[]).unwrap(), ["a", "b"]);
        assert_eq!(chosen(&text, &["b"]).unwrap(), ["b"]);
        assert_eq!(chosen(&text, &["x"]).unwrap_err(), ["no pod is called \"x\""]);
        assert_eq!(chosen("", &[]).unwrap_err(), ["there is no pod in these manifests"]);
    }
}
