//! Coracle's own annotations, `coracle.dev/…`: what they say, as types.
//!
//! [`read`](crate::read) refuses a pod whose annotations do not parse, and every other key under `coracle.dev/`; so
//! [`Annotations::of`] fails only for pods that came another way.

mod links;

use crate::suggest::{clip, nearest, one_of};
use crate::validate::names;
use k8s_openapi::api::core::v1::Pod;
use std::str::FromStr;
use std::time::Duration;

pub use links::{Kind, Link, links};

/// The network that a pod is in.
pub const NETWORK: &str = "coracle.dev/network";
/// Bits a second that a pod may receive, and that it may send: Kubernetes' own.
pub const BANDWIDTH: [&str; 2] = ["kubernetes.io/ingress-bandwidth", "kubernetes.io/egress-bandwidth"];
/// What a pod wants to reach, and what it calls it: `db, cache.other:redis, service/web:front, peer(ungated)`.
pub const LINKS: &str = "coracle.dev/links";
/// The pods that have to be somewhere before a pod starts: `db(ready), migrate(completed)`.
pub const AFTER: &str = "coracle.dev/after";
/// How long a pod's containers wait before they are started again: `initial=1s,max=1m,reset=10m`.
pub const RESTART_BACKOFF: &str = "coracle.dev/restart-backoff";
/// Whether containers are started again when a ConfigMap or Secret that they use changes: `true`.
pub const RESTART_ON_CHANGE: &str = "coracle.dev/restart-on-change";

/// All of them.
pub(crate) const ALL: [&str; 5] = [AFTER, LINKS, NETWORK, RESTART_BACKOFF, RESTART_ON_CHANGE];

/// What the annotations of a pod say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Annotations {
    /// What the pod waits for, in the order written.
    pub after: Vec<After>,
    /// What it wants to reach, in the order written.
    pub links: Vec<Link>,
    /// Its own restart back-off.
    pub restart_backoff: Backoff,
    /// Its containers are started again when a ConfigMap or Secret that they use changes.
    pub restart_on_change: bool,
}

/// Why an annotation means nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Broken {
    /// What is wrong.
    pub message: String,
    /// What would be right.
    pub help: Option<String>,
}

impl Broken {
    fn new(message: impl Into<String>, help: impl Into<String>) -> Broken {
        Broken { message: message.into(), help: Some(help.into()) }
    }
}

/// The annotation of a pod that means nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("annotation {key}: {source}")]
pub struct Invalid {
    /// Its key.
    pub key: &'static str,
    /// What is wrong with it.
    pub source: Broken,
}

impl Annotations {
    /// Reads the annotations of a pod.
    pub fn of(pod: &Pod) -> Result<Annotations, Invalid> {
        let invalid = |key| move |source| Invalid { key, source };
        let get = |key| pod.metadata.annotations.as_ref()?.get(key).map(String::as_str);
        Ok(Annotations {
            after: get(AFTER).map_or(Ok(vec![]), after).map_err(invalid(AFTER))?,
            links: get(LINKS).map_or(Ok(vec![]), links).map_err(invalid(LINKS))?,
            restart_backoff: get(RESTART_BACKOFF)
                .map_or(Ok(Backoff::default()), str::parse)
                .map_err(invalid(RESTART_BACKOFF))?,
            restart_on_change: get(RESTART_ON_CHANGE).map_or(Ok(false), boolean).map_err(invalid(RESTART_ON_CHANGE))?,
        })
    }
}

/// A pod to wait for, and what it has to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct After {
    /// Its namespace; that of the waiting pod where there is none.
    pub namespace: Option<String>,
    /// Its name.
    pub pod: String,
    /// What it has to be.
    pub condition: Condition,
}

/// What a pod has to be for those that wait for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// All its containers have been started: it is no longer Pending.
    Started,
    /// Its condition Ready is true. This is what is meant where nothing is written.
    Ready,
    /// It ended, with success.
    Completed,
}

impl Condition {
    const ALL: [Condition; 3] = [Condition::Started, Condition::Ready, Condition::Completed];

    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Condition::Started => "started",
            Condition::Ready => "ready",
            Condition::Completed => "completed",
        }
    }
}

/// Reads `db(ready), other-namespace/migrate(completed), cache`.
pub fn after(text: &str) -> Result<Vec<After>, Broken> {
    const EXAMPLE: &str = "such as `db(ready), migrate(completed)`";
    let mut all: Vec<After> = Vec::new();
    for part in text.split(',').map(str::trim) {
        if part.is_empty() {
            return Err(Broken::new("a pod's name is missing", EXAMPLE));
        }
        let (target, condition) = match part.split_once('(') {
            None => (part, Condition::Ready),
            Some((target, rest)) => {
                let closed = rest.strip_suffix(')');
                let word = closed.ok_or_else(|| Broken::new(format!("`{}` has no `)`", clip(part)), EXAMPLE))?;
                (target.trim_end(), condition(word.trim())?)
            }
        };
        let (namespace, pod) = match target.split_once('/') {
            Some((namespace, pod)) => (Some(namespace), pod),
            None => (None, target),
        };
        names::dns_subdomain(pod).map_err(named)?;
        namespace.map_or(Ok(()), names::dns_label).map_err(named)?;
        let wait = After { namespace: namespace.map(str::to_owned), pod: pod.to_owned(), condition };
        if all.iter().any(|known| (&known.namespace, &known.pod) == (&wait.namespace, &wait.pod)) {
            return Err(Broken { message: format!("`{}` is there twice", clip(target)), help: None });
        }
        all.push(wait);
    }
    Ok(all)
}

fn named(broken: names::Broken) -> Broken {
    Broken { message: broken.message, help: broken.help }
}

fn condition(word: &str) -> Result<Condition, Broken> {
    let words = Condition::ALL.map(Condition::as_str);
    let found = Condition::ALL.into_iter().find(|condition| condition.as_str() == word);
    found.ok_or_else(|| {
        let help = nearest(word, words).map(|near| format!("did you mean `{near}`?"));
        Broken { message: format!("`{}` is not one of {}", clip(word), one_of(&words)), help }
    })
}

/// A restart back-off, as far as it is given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backoff {
    /// The wait before the second restart; it doubles from there.
    pub initial: Option<Duration>,
    /// The longest wait.
    pub max: Option<Duration>,
    /// A container that ran this long starts again from nothing.
    pub reset: Option<Duration>,
}

impl FromStr for Backoff {
    type Err = Broken;

    fn from_str(text: &str) -> Result<Backoff, Broken> {
        const KEYS: [&str; 3] = ["initial", "max", "reset"];
        let mut backoff = Backoff::default();
        for part in text.split(',').map(str::trim) {
            let (key, value) = part.split_once('=').map_or((part, ""), |(key, value)| (key.trim(), value.trim()));
            let field = match key {
                "initial" => &mut backoff.initial,
                "max" => &mut backoff.max,
                "reset" => &mut backoff.reset,
                _ => {
                    let example = "it is written like `initial=1s,max=1m,reset=10m`".to_owned();
                    let help = nearest(key, KEYS).map_or(example, |near| format!("did you mean `{near}`?"));
                    let message = format!("`{}` is not one of {}", clip(key), one_of(&KEYS));
                    return Err(Broken::new(message, help));
                }
            };
            let duration = crate::duration::parse(value).ok_or_else(|| {
                let help = "it is written as 500ms, 10s, 5m or 1h30m";
                Broken::new(format!("`{}` is no duration for `{key}`", clip(value)), help)
            })?;
            if field.replace(duration).is_some() {
                return Err(Broken { message: format!("`{key}` is there twice"), help: None });
            }
        }
        if let (Some(initial), Some(max)) = (backoff.initial, backoff.max)
            && initial > max
        {
            let [initial, max] = [initial, max].map(crate::duration::format);
            return Err(Broken { message: format!("`initial` ({initial}) is longer than `max` ({max})"), help: None });
        }
        Ok(backoff)
    }
}

/// Reads `true` or `false`.
pub fn boolean(text: &str) -> Result<bool, Broken> {
    match text {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(Broken::new(format!("`{}` is not one of `true` or `false`", clip(text)), "write `\"true\"`")),
    }
}

#[cfg(test)]
mod tests;
