//! What is known of each reference, and what that means for each pod. No clock, no I/O.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolume, PersistentVolumeClaim, Pod, Secret};
use k8s_openapi::api::node::v1::RuntimeClass;
use k8s_openapi::api::storage::v1::{CSIDriver, VolumeAttachment};

use super::references::{Reference, References};
use crate::csi::attachment_of;
use crate::engine::config::Objects;
use crate::engine::config::names::PodKey;
use crate::engine::config::objects::{Absent, Origin, Token, TokenWish};
use crate::host::volumes::bound_to;
use crate::node::desired::Pods;

/// An object.
#[derive(Clone, Debug, PartialEq)]
pub enum Item {
    /// A ConfigMap.
    ConfigMap(Arc<ConfigMap>),
    /// A Secret.
    Secret(Arc<Secret>),
    /// A PersistentVolumeClaim.
    Claim(Arc<PersistentVolumeClaim>),
    /// A PersistentVolume.
    Volume(Arc<PersistentVolume>),
    /// A RuntimeClass.
    RuntimeClass(Arc<RuntimeClass>),
    /// A CSIDriver.
    CsiDriver(Arc<CSIDriver>),
    /// A VolumeAttachment.
    Attachment(Arc<VolumeAttachment>),
}

/// What is known of something that a pod refers to.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer<T> {
    /// Nothing: the API server was not reached, for this reason.
    Unknown(Option<String>),
    /// There is none.
    Missing,
    /// It may not be had, in the API server's words.
    Refused(String),
    /// It is this.
    Is(T),
}

impl<T> Answer<T> {
    /// Takes a newer answer: what is known stays in use while the API server does not tell anything else.
    fn take(&mut self, newer: Answer<T>) {
        let keeps = match &newer {
            Answer::Unknown(_) => !matches!(self, Answer::Unknown(_)),
            Answer::Refused(_) => matches!(self, Answer::Is(_)),
            Answer::Missing | Answer::Is(_) => false,
        };
        if !keeps {
            *self = newer;
        }
    }
}

/// A token of a pod.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub struct TokenKey {
    /// The pod's uid.
    pub pod: String,
    /// What it asks for.
    pub wish: TokenWish,
}

/// Whom a token is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// The pod.
    pub pod: PodKey,
    /// Its service account.
    pub account: String,
}

/// A pod that refers to objects.
#[derive(Debug)]
struct Wanted {
    holder: Holder,
    references: References,
    /// What the engine has.
    given: Arc<Objects>,
}

/// Everything that is known.
#[derive(Debug, Default)]
pub struct State {
    pods: BTreeMap<String, Wanted>,
    answers: BTreeMap<Reference, Answer<Item>>,
    tokens: BTreeMap<TokenKey, Answer<Token>>,
    /// What this node is called, in names of attachments.
    pub node: String,
    /// The Services were listed once.
    pub services_known: bool,
    /// What others, too, have written on the node; none until it is registered.
    node_labels: Option<Arc<BTreeMap<String, String>>>,
}

/// What pods have now, by uid.
pub type Given = Vec<(String, Arc<Objects>)>;

impl State {
    /// A state that knows what was known before.
    pub fn recalled(objects: Vec<(Reference, Item)>, tokens: Vec<(TokenKey, Token)>, services_known: bool) -> Self {
        State {
            answers: objects.into_iter().map(|(reference, item)| (reference, Answer::Is(item))).collect(),
            tokens: tokens.into_iter().map(|(key, token)| (key, Answer::Is(token))).collect(),
            services_known,
            ..State::default()
        }
    }

    /// From now on these are the pods. The answer is what those have that are new or changed.
    pub fn want(&mut self, pods: &Pods) -> Given {
        let uids: BTreeSet<&str> = pods.values().filter_map(|pod| pod.metadata.uid.as_deref()).collect();
        self.pods.retain(|uid, _| uids.contains(uid.as_str()));
        let mut given = Given::new();
        for pod in pods.values() {
            let (holder, references) = (holder_of(pod), References::of(pod));
            let uid = holder.pod.uid.clone();
            let is_new = !self.pods.contains_key(&uid);
            let before = self.pods.remove(&uid).map(|wanted| wanted.given).unwrap_or_default();
            self.pods.insert(uid.clone(), Wanted { holder, references, given: before });
            given.extend(self.give(&uid, is_new));
        }
        let (references, tokens) = (self.references(), self.token_keys());
        self.answers.retain(|reference, _| references.contains(reference));
        self.tokens.retain(|key, _| tokens.contains_key(key));
        given
    }

    /// The pods, by uid.
    pub fn uids(&self) -> BTreeSet<String> {
        self.pods.keys().cloned().collect()
    }

    /// Whether this is what was heard of an object last.
    pub fn knows(&self, reference: &Reference, answer: &Answer<Item>) -> bool {
        self.answers.get(reference) == Some(answer)
    }

    /// Takes what was heard of an object. The answer is what those pods have whose objects are others now.
    pub fn hear(&mut self, reference: &Reference, answer: Answer<Item>) -> Given {
        self.answers.entry(reference.clone()).or_insert(Answer::Unknown(None)).take(answer);
        let uids: Vec<String> = self.pods.keys().filter(|uid| self.refers(uid, reference)).cloned().collect();
        uids.iter().filter_map(|uid| self.give(uid, false)).collect()
    }

    /// Takes the labels of the node. The answer is what those pods have that have volumes.
    pub fn hear_labels(&mut self, labels: BTreeMap<String, String>) -> Given {
        self.node_labels = Some(Arc::new(labels));
        let uids: Vec<String> = self.pods.keys().cloned().collect();
        uids.iter().filter_map(|uid| self.give(uid, false)).collect()
    }

    /// Takes what was heard of a token.
    pub fn hear_token(&mut self, key: &TokenKey, answer: Answer<Token>) -> Given {
        if !self.pods.contains_key(&key.pod) {
            return Given::new();
        }
        self.tokens.entry(key.clone()).or_insert(Answer::Unknown(None)).take(answer);
        self.give(&key.pod, false).into_iter().collect()
    }

    /// Everything that is referred to.
    pub fn references(&self) -> BTreeSet<Reference> {
        self.pods.keys().flat_map(|uid| self.references_of(uid)).collect()
    }

    /// What one pod refers to, directly and by its claims.
    pub fn references_of(&self, uid: &str) -> BTreeSet<Reference> {
        let Some(wanted) = self.pods.get(uid) else { return BTreeSet::new() };
        let direct = wanted.references.objects.iter();
        let bound = direct.clone().filter_map(|reference| match self.answers.get(reference) {
            Some(Answer::Is(Item::Claim(claim))) => Some(bound_to(claim).ok()?.to_owned()),
            _ => None,
        });
        let bound: Vec<_> = bound.map(|name| Reference::Volume { pod: uid.to_owned(), name }).collect();
        let driven: Vec<_> = bound.iter().flat_map(|volume| self.driven(uid, volume)).collect();
        direct.cloned().chain(bound).chain(driven).collect()
    }

    /// What a volume refers to that a driver is to mount for a pod.
    fn driven(&self, uid: &str, volume: &Reference) -> Vec<Reference> {
        let Some(Answer::Is(Item::Volume(volume))) = self.answers.get(volume) else { return Vec::new() };
        let Some(csi) = volume.spec.as_ref().and_then(|spec| spec.csi.as_ref()) else { return Vec::new() };
        let driver = Reference::CsiDriver(csi.driver.clone());
        let attached = match self.answers.get(&driver) {
            Some(Answer::Is(Item::CsiDriver(driver))) => driver.spec.attach_required != Some(false),
            Some(Answer::Missing) => true,
            // Who asks for what a node has no right to see is refused.
            _ => false,
        };
        let attachment = attached.then(|| Reference::Attachment {
            pod: uid.to_owned(),
            name: attachment_of(&csi.volume_handle, &csi.driver, &self.node),
        });
        let secrets = [&csi.node_stage_secret_ref, &csi.node_publish_secret_ref].into_iter().flatten();
        let secrets = secrets.filter_map(|it| Some(Reference::Secret((it.namespace.clone()?, it.name.clone()?))));
        secrets.chain([driver]).chain(attachment).collect()
    }

    fn refers(&self, uid: &str, reference: &Reference) -> bool {
        match reference {
            Reference::Volume { pod, .. } | Reference::Attachment { pod, .. } => pod == uid,
            // By a claim, too.
            other @ (Reference::CsiDriver(_) | Reference::Secret(_)) => self.references_of(uid).contains(other),
            other => self.pods.get(uid).is_some_and(|wanted| wanted.references.objects.contains(other)),
        }
    }

    /// The tokens that are asked for, and for whom.
    pub fn token_keys(&self) -> BTreeMap<TokenKey, Holder> {
        let of = |(uid, wanted): (&String, &Wanted)| -> Vec<(TokenKey, Holder)> {
            let tokens = wanted.references.tokens.iter();
            tokens.map(|wish| (TokenKey { pod: uid.clone(), wish: wish.clone() }, wanted.holder.clone())).collect()
        };
        self.pods.iter().flat_map(of).collect()
    }

    /// The token that is in use.
    pub fn token(&self, key: &TokenKey) -> Option<&Token> {
        match self.tokens.get(key) {
            Some(Answer::Is(token)) => Some(token),
            _ => None,
        }
    }

    /// What each pod still has to wait for, by uid.
    pub fn unknown(&self, now: Timestamp) -> BTreeMap<String, Vec<String>> {
        let of = |uid: &String| Some((uid.clone(), self.unknown_of(uid, now))).filter(|(_, waits)| !waits.is_empty());
        self.pods.keys().filter_map(of).collect()
    }

    fn unknown_of(&self, uid: &str, now: Timestamp) -> Vec<String> {
        let Some(wanted) = self.pods.get(uid) else { return Vec::new() };
        let mut waits = Vec::new();
        for reference in self.references_of(uid) {
            match self.answers.get(&reference) {
                None | Some(Answer::Unknown(None)) => waits.push(reference.to_string()),
                Some(Answer::Unknown(Some(why))) => waits.push(format!("{reference} ({why})")),
                Some(_) => {}
            }
        }
        for wish in &wanted.references.tokens {
            let what = format!("token of service account {}", wanted.holder.account);
            match self.tokens.get(&TokenKey { pod: uid.to_owned(), wish: wish.clone() }) {
                None | Some(Answer::Unknown(None)) => waits.push(what),
                Some(Answer::Unknown(Some(why))) => waits.push(format!("{what} ({why})")),
                // One of before that is of no use any more: nothing begins with it.
                Some(Answer::Is(token)) if token.expires <= now => waits.push(format!("{what} (the last has expired)")),
                Some(_) => {}
            }
        }
        if !self.services_known {
            waits.push("Services".to_owned());
        }
        waits
    }

    /// Brings what a pod has up to date.
    fn give(&mut self, uid: &str, anyway: bool) -> Option<(String, Arc<Objects>)> {
        let objects = Arc::new(self.objects_of(uid)?);
        let wanted = self.pods.get_mut(uid)?;
        if !anyway && *wanted.given == *objects {
            return None;
        }
        wanted.given = objects.clone();
        Some((uid.to_owned(), objects))
    }

    fn objects_of(&self, uid: &str) -> Option<Objects> {
        let wanted = self.pods.get(uid)?;
        let mut objects = Objects { origin: Origin::Cluster, ..Objects::default() };
        for reference in self.references_of(uid) {
            let (kind, namespace, name) = reference.parts();
            let place = (namespace.to_owned(), name.to_owned());
            match self.answers.get(&reference) {
                None | Some(Answer::Unknown(_)) => {}
                Some(Answer::Missing) => drop(objects.absent.insert((kind, place), Absent::Missing)),
                Some(Answer::Refused(why)) => {
                    drop(objects.absent.insert((kind, place), Absent::Refused(why.clone())));
                }
                Some(Answer::Is(Item::ConfigMap(map))) => drop(objects.config_maps.insert(place, map.clone())),
                Some(Answer::Is(Item::Secret(secret))) => drop(objects.secrets.insert(place, secret.clone())),
                Some(Answer::Is(Item::Claim(claim))) => drop(objects.claims.insert(place, claim.clone())),
                Some(Answer::Is(Item::Volume(volume))) => drop(objects.volumes.insert(place.1, volume.clone())),
                Some(Answer::Is(Item::RuntimeClass(class))) => {
                    drop(objects.runtime_classes.insert(place.1, class.clone()));
                }
                Some(Answer::Is(Item::CsiDriver(driver))) => {
                    drop(objects.csi_drivers.insert(place.1, driver.clone()));
                }
                Some(Answer::Is(Item::Attachment(attachment))) => {
                    drop(objects.attachments.insert(place.1, attachment.clone()));
                }
            }
        }
        if !objects.volumes.is_empty() {
            objects.node_labels.clone_from(&self.node_labels);
        }
        for wish in &wanted.references.tokens {
            match self.tokens.get(&TokenKey { pod: uid.to_owned(), wish: wish.clone() }) {
                Some(Answer::Is(token)) => drop(objects.tokens.insert(wish.clone(), Ok(token.clone()))),
                Some(Answer::Refused(why)) => drop(objects.tokens.insert(wish.clone(), Err(why.clone()))),
                None | Some(Answer::Unknown(_) | Answer::Missing) => {}
            }
        }
        Some(objects)
    }
}

fn holder_of(pod: &Pod) -> Holder {
    let account = pod.spec.as_ref().and_then(|spec| spec.service_account_name.clone());
    let account = account.filter(|account| !account.is_empty()).unwrap_or_else(|| "default".to_owned());
    Holder { pod: PodKey::of(pod), account }
}

#[cfg(test)]
mod tests;
