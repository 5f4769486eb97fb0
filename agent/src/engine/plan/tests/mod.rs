//! Tables of pods and what is seen of them, a situation a row.
//!
//! A row is written in a shorthand: `Always i s+ | a b:Never` is a pod with an init container, a sidecar and two
//! containers, one with a policy of its own. `S0 a0=run b1=3` is a ready sandbox, a running container, and one that was
//! restarted once and ended with code 3. A sandbox may be dead (`S0!`) or given back (`S0!-`); an instance may be of
//! another sandbox (`a0=3@1`), never started (`=new`), lost (`=?`), made from another definition (`a0=run*`), or marked
//! void (`a0=run^`) or condemned (`a0=143~`). The time is second 100; what has ended did so just now.
#![allow(clippy::unwrap_used)]

mod basics;
mod changes;
mod endings;
mod health;
mod init;
mod restarts;
mod sandboxes;
mod sidecars;

use super::*;
use crate::engine::history::{Failure, History};
use crate::engine::view::{Exit, SandboxView, State};
use serde_json::json;

const fn at(seconds: u64) -> Monotonic {
    Monotonic(Duration::from_secs(seconds))
}

fn pod(policy: &str, inits: &[&str], names: &[&str]) -> Pod {
    let container = |name: &&str| match name.strip_suffix('+') {
        Some(sidecar) => json!({"name": sidecar, "image": "i", "restartPolicy": "Always"}),
        None => json!({"name": name, "image": "i"}),
    };
    serde_json::from_value(json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "default", "uid": "u"},
        "spec": {
            "restartPolicy": policy,
            "initContainers": inits.iter().map(container).collect::<Vec<_>>(),
            "containers": names.iter().map(container).collect::<Vec<_>>(),
        }
    }))
    .unwrap()
}

fn sandbox(attempt: u32, ready: bool) -> SandboxView {
    SandboxView { id: format!("s{attempt}"), attempt, ready, ..SandboxView::default() }
}

fn container(name: &str, attempt: u32, state: State) -> ContainerView {
    ContainerView {
        id: format!("{name}{attempt}"),
        name: name.into(),
        sandbox: "s0".into(),
        attempt,
        state,
        ..ContainerView::default()
    }
}

fn exited(code: i32) -> State {
    let reason = if code == 0 { "Completed" } else { "Error" };
    State::Exited(Exit { code, reason: reason.into(), message: String::new() })
}

fn view(containers: Vec<ContainerView>) -> PodStatusView {
    let sandboxes = vec![sandbox(0, true)];
    let mut history = History::default();
    history.note(&sandboxes, &containers, at(100));
    PodStatusView::new(sandboxes, containers, history)
}

/// What is asked beside the pod.
#[derive(Clone, Debug, Default)]
struct Asked {
    stop: Option<Stop>,
    gate: Option<Gate>,
    objects: BTreeMap<String, String>,
    health: BTreeMap<String, ProbeResult>,
    hooks: BTreeSet<String>,
    unhooked: BTreeSet<String>,
    follows: Follows,
}

impl Asked {
    fn to_stop(deadline: u64) -> Self {
        let stop = Stop { deadline: at(deadline), grace: Duration::from_secs(30) };
        Asked { stop: Some(stop), ..Asked::default() }
    }

    fn decide(&self, pod: &Pod, view: &PodStatusView, now: Monotonic) -> Plan {
        let desired = Desired {
            pod,
            definition: &Definition { follows: self.follows, ..Definition::of(pod) },
            objects: &self.objects,
            backoff: Policy::default(),
            stop: self.stop,
            gate: self.gate.as_ref(),
            health: &self.health,
            hooks: &self.hooks,
            unhooked: &self.unhooked,
        };
        plan(&desired, view, now)
    }
}

fn decide(pod: &Pod, view: &PodStatusView, now: u64) -> Plan {
    Asked::default().decide(pod, view, at(now))
}

fn halt(name: &str, deadline: u64) -> Action {
    halt_for(name, deadline, Cause::Ending)
}

fn halt_for(name: &str, deadline: u64, cause: Cause) -> Action {
    Action::StopContainer { id: format!("{name}0"), name: name.into(), deadline: at(deadline), turn: true, cause }
}

fn start(name: &str, attempt: u32) -> Action {
    Action::StartContainer { name: name.into(), attempt, sandbox: "s0".into() }
}

fn stop_sandbox(id: &str) -> Action {
    Action::StopSandbox { id: id.into() }
}

/// The pod of a shorthand.
fn pod_of(text: &str) -> Pod {
    let (policy, rest) = text.split_once(' ').unwrap();
    let (inits, mains) = rest.split_once('|').unwrap();
    let container = |word: &str| {
        let (word, sidecar) = word.strip_suffix('+').map_or((word, false), |word| (word, true));
        let (name, own) = word.split_once(':').map_or((word, None), |(name, own)| (name, Some(own)));
        let own = if sidecar { Some("Always") } else { own };
        json!({"name": name, "image": "i", "restartPolicy": own})
    };
    let list = |words: &str| words.split_whitespace().map(container).collect::<Vec<_>>();
    serde_json::from_value(json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "default", "uid": "u"},
        "spec": {"restartPolicy": policy, "initContainers": list(inits), "containers": list(mains)}
    }))
    .unwrap()
}

/// The view of a shorthand.
fn view_of(text: &str) -> PodStatusView {
    let (mut sandboxes, mut containers, mut history) = (vec![], vec![], History::default());
    for word in text.split_whitespace() {
        match word.split_once('=') {
            None => {
                let attempt = word[1..].chars().take_while(char::is_ascii_digit).collect::<String>().parse().unwrap();
                let mut seen = sandbox(attempt, !word.contains('!'));
                seen.definition = word.contains('*').then(|| "1:another".to_owned());
                if word.contains('-') {
                    history.stopped.insert(seen.id.clone());
                }
                sandboxes.push(seen);
            }
            Some((name, state)) => {
                let (name, attempt) = name.split_at(name.len() - 1);
                let word = state.trim_end_matches(['*', '^', '~']);
                let (word, sandbox) = word.split_once('@').unwrap_or((word, "0"));
                let attempt = attempt.parse().unwrap();
                let mut seen = container(
                    name,
                    attempt,
                    match word {
                        "run" => State::Running,
                        "new" => State::Created,
                        "?" => State::Unknown,
                        code => exited(code.parse().unwrap()),
                    },
                );
                seen.sandbox = format!("s{sandbox}");
                seen.definition = state.contains('*').then(|| "1:another".to_owned());
                if state.contains('^') {
                    history.void(Some(name), attempt);
                }
                if state.contains('~') {
                    history.condemn(name, attempt);
                }
                containers.push(seen);
            }
        }
    }
    history.note(&sandboxes, &containers, at(100));
    PodStatusView::new(sandboxes, containers, history)
}

/// A plan's steps in short.
fn steps(plan: &Plan) -> String {
    let short = |action: &Action| match action {
        Action::CreateSandbox { attempt } => format!("sandbox {attempt}"),
        Action::StopSandbox { id } => format!("stop-sandbox {id}"),
        Action::RemoveSandbox { id } => format!("rm-sandbox {id}"),
        Action::StartContainer { name, attempt, sandbox } if sandbox == "s0" => format!("start {name} {attempt}"),
        Action::StartContainer { name, attempt, sandbox } => format!("start {name} {attempt} in {sandbox}"),
        Action::RemoveContainer { id, .. } => format!("rm {id}"),
        Action::Resize { id, .. } => format!("resize {id}"),
        Action::Void { names, because } => format!("void {} for {because}", names.join(",")),
        Action::Evict(eviction) => format!("evict {}", eviction.reason),
        Action::StopContainer { id, deadline, turn, cause, .. } => {
            let cause = match cause {
                Cause::Ending => String::new(),
                Cause::Unhealthy(kind) => format!(" {}", kind.to_string().to_lowercase()),
                other => format!(" {}", format!("{other:?}").to_lowercase()),
            };
            let verb = if *turn { "stop" } else { "hold" };
            format!("{verb} {id} in {}{cause}", deadline.0.as_secs().saturating_sub(100))
        }
    };
    plan.actions.iter().map(short).collect::<Vec<_>>().join("; ")
}

/// Each row: what is seen, what is done, the phase.
fn table(pod: &str, rows: &[(&str, &str, &str)]) {
    table_of(&Asked::default(), pod, rows);
}

/// The same with what is asked beside the pod.
fn table_of(asked: &Asked, pod: &str, rows: &[(&str, &str, &str)]) {
    let pod_value = pod_of(pod);
    for (seen, done, phase) in rows {
        let plan = asked.decide(&pod_value, &view_of(seen), at(100));
        assert_eq!((steps(&plan).as_str(), plan.phase.as_str()), (*done, *phase), "{pod}: {seen}");
    }
}
