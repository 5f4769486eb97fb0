//! Asking the API server, one object at a time: ConfigMaps, Secrets, RuntimeClasses and CSIDrivers are watched by their names;
//! claims, volumes and their attachments, which a node may get and not watch, are asked for until they are bound and attached.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolume, PersistentVolumeClaim, Secret, Service};
use k8s_openapi::api::node::v1::RuntimeClass;
use k8s_openapi::api::storage::v1::{CSIDriver, VolumeAttachment};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::Api;
use kube::runtime::watcher::{self, Event};
use kube::{Client, Resource};
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use super::super::client::chain;
use super::super::pace::Pauses;
use super::Shared;
use super::references::Reference;
use super::state::{Answer, Item};
use crate::host::volumes::bound_to;
use crate::net::services::{OfCluster, cluster_ip};

/// How often in a row the API server has to refuse something before that counts: of a pod that has just come to this node
/// it may not know yet, for a moment.
const REFUSALS: u32 = 3;

/// How often at least a claim is asked for that is not bound: its pod waits for nothing else.
const UNBOUND: Duration = Duration::from_secs(3);

/// After so long without a failure the pauses are short again.
const RECOVERED: Duration = Duration::from_secs(120);

/// Follows one reference until nobody refers to it any more, or it cannot change.
pub async fn follow(shared: Arc<Shared>, reference: Reference) {
    let one = reference.clone();
    match reference {
        Reference::ConfigMap((namespace, name)) => {
            let api = move |client| Api::<ConfigMap>::namespaced(client, &namespace);
            watch(&shared, &one, &name, api, |map| (map.immutable == Some(true), Item::ConfigMap(map.into()))).await;
        }
        Reference::Secret((namespace, name)) => {
            let api = move |client| Api::<Secret>::namespaced(client, &namespace);
            watch(&shared, &one, &name, api, |it| (it.immutable == Some(true), Item::Secret(it.into()))).await;
        }
        Reference::RuntimeClass(name) => {
            let api = Api::<RuntimeClass>::all;
            watch(&shared, &one, &name, api, |class| (false, Item::RuntimeClass(class.into()))).await;
        }
        Reference::CsiDriver(name) => {
            let api = Api::<CSIDriver>::all;
            watch(&shared, &one, &name, api, |driver| (false, Item::CsiDriver(driver.into()))).await;
        }
        Reference::Attachment { name, .. } => {
            let api = Api::<VolumeAttachment>::all;
            poll(&shared, &one, &name, api, |it| (is_attached(&it), Item::Attachment(it.into()))).await;
        }
        Reference::Claim { name: (namespace, name), .. } => {
            let api = move |client| Api::<PersistentVolumeClaim>::namespaced(client, &namespace);
            poll(&shared, &one, &name, api, |claim| (bound_to(&claim).is_ok(), Item::Claim(claim.into()))).await;
        }
        Reference::Volume { name, .. } => {
            let api = Api::<PersistentVolume>::all;
            poll(&shared, &one, &name, api, |volume| (is_claimed(&volume), Item::Volume(volume.into()))).await;
        }
    }
}

fn is_attached(attachment: &VolumeAttachment) -> bool {
    attachment.status.as_ref().is_some_and(|status| status.attached) && attachment.metadata.deletion_timestamp.is_none()
}

fn is_claimed(volume: &PersistentVolume) -> bool {
    volume.spec.as_ref().is_some_and(|spec| spec.claim_ref.is_some())
}

/// Watches one object by its name. `make` says, too, whether it will never be another.
async fn watch<K>(
    shared: &Arc<Shared>,
    reference: &Reference,
    name: &str,
    api: impl Fn(Client) -> Api<K>,
    make: impl Fn(K) -> (bool, Item),
) where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let mut trouble = Trouble::default();
    let mut link = shared.link.clone();
    'anew: loop {
        let client = link.latest().await;
        let permit = shared.asking.acquire().await.ok();
        let mut stream = std::pin::pin!(watcher::watch_object(api(client), name));
        let first = stream.next().await;
        drop(permit);
        let mut next = first;
        let error = loop {
            match next {
                Some(Ok(Some(mut object))) => {
                    trouble.refusals = 0;
                    slim(object.meta_mut());
                    let (is_final, item) = make(object);
                    shared.hear(reference, Answer::Is(item)).await;
                    if is_final {
                        return;
                    }
                }
                Some(Ok(None)) => {
                    trouble.refusals = 0;
                    shared.hear(reference, Answer::Missing).await;
                }
                Some(Err(error)) => break cause(error),
                None => break None,
            }
            next = tokio::select! {
                next = stream.next() => next,
                () = link.changed() => continue 'anew,
            };
        };
        if let Some(error) = &error {
            shared.hear(reference, trouble.answer(error)).await;
        }
        trouble.rest(error.as_ref()).await;
    }
}

/// Asks for one object until `make` says that it will never be another.
async fn poll<K>(
    shared: &Arc<Shared>,
    reference: &Reference,
    name: &str,
    api: impl Fn(Client) -> Api<K>,
    make: impl Fn(K) -> (bool, Item),
) where
    K: Resource + Clone + DeserializeOwned + Debug,
{
    let (mut trouble, mut patience) = (Trouble::default(), Pauses::new(Duration::from_secs(1), UNBOUND));
    loop {
        let client = shared.link.client().await;
        let permit = shared.asking.acquire().await.ok();
        let answer = api(client).get_opt(name).await;
        drop(permit);
        match answer {
            Ok(Some(mut object)) => {
                slim(object.meta_mut());
                let (is_final, item) = make(object);
                shared.hear(reference, Answer::Is(item)).await;
                if is_final {
                    return;
                }
            }
            Ok(None) => shared.hear(reference, Answer::Missing).await,
            Err(error) => {
                shared.hear(reference, trouble.answer(&error)).await;
                trouble.rest(Some(&error)).await;
                continue;
            }
        }
        trouble.refusals = 0;
        patience.wait().await;
    }
}

/// Watches all Services, of which pods are told by their environments.
pub async fn follow_services(shared: Arc<Shared>) {
    let mut trouble = Trouble::default();
    let mut link = shared.link.clone();
    loop {
        let client = link.latest().await;
        let mut stream = std::pin::pin!(watcher::watcher(Api::<Service>::all(client), watcher::Config::default()));
        // What is being listed, until it is known to be all.
        let mut fresh: Option<OfCluster> = None;
        loop {
            let next = tokio::select! {
                next = stream.next() => next,
                () = link.changed() => break,
            };
            let Some(event) = next else { break };
            let event = match event {
                Ok(event) => event,
                Err(error) => {
                    trouble.rest(cause(error).as_ref()).await;
                    break;
                }
            };
            match event {
                Event::Init => fresh = Some(OfCluster::new()),
                Event::InitApply(service) => {
                    let all = fresh.get_or_insert_default();
                    let (name, service) = only_address(service);
                    service.map(|service| all.insert(name, service));
                }
                Event::InitDone => shared.hear_services(fresh.take().unwrap_or_default()),
                Event::Apply(service) => {
                    let (name, service) = only_address(service);
                    shared.hear_service(name, service);
                }
                Event::Delete(service) => shared.hear_service(only_address(service).0, None),
            }
        }
    }
}

/// What variables are made from; nothing of a Service that has no address.
fn only_address(service: Service) -> ((String, String), Option<Service>) {
    let meta = &service.metadata;
    let name = (meta.namespace.clone().unwrap_or_default(), meta.name.clone().unwrap_or_default());
    if cluster_ip(&service).is_none() {
        return (name, None);
    }
    let spec = service.spec.map(|spec| k8s_openapi::api::core::v1::ServiceSpec {
        cluster_ip: spec.cluster_ip,
        ports: spec.ports,
        ..Default::default()
    });
    (name, Some(Service { spec, ..Service::default() }))
}

/// Keeps of an object's metadata what anybody here asks for.
fn slim(meta: &mut ObjectMeta) {
    meta.managed_fields = None;
    meta.annotations = None;
    meta.labels = None;
}

/// What lies below a watcher's error; nothing where it is enough to begin anew.
fn cause(error: watcher::Error) -> Option<kube::Error> {
    match error {
        watcher::Error::InitialListFailed(error)
        | watcher::Error::WatchStartFailed(error)
        | watcher::Error::WatchFailed(error) => Some(error),
        watcher::Error::WatchError(status) if status.code == 410 => None,
        watcher::Error::WatchError(status) => Some(kube::Error::Api(status)),
        // The server has no versions: as good as none that answers.
        watcher::Error::NoResourceVersion => None,
    }
}

/// Failures in a row.
pub struct Trouble {
    /// How often in a row the API server refused.
    pub(super) refusals: u32,
    pauses: Pauses,
    rested: Instant,
}

impl Default for Trouble {
    fn default() -> Self {
        Trouble { refusals: 0, pauses: Pauses::of_watch(), rested: Instant::now() }
    }
}

impl Trouble {
    /// What a failure means.
    pub fn answer<T>(&mut self, error: &kube::Error) -> Answer<T> {
        match error {
            kube::Error::Api(status) if matches!(status.code, 400 | 403 | 404 | 422) => {
                self.refusals += 1;
                match self.refusals < REFUSALS && status.code == 403 {
                    true => Answer::Unknown(Some(status.message.clone())),
                    false => Answer::Refused(status.message.clone()),
                }
            }
            error => Answer::Unknown(Some(said(error))),
        }
    }

    /// Waits before the next try, at least as long as the API server asks for.
    pub async fn rest(&mut self, error: Option<&kube::Error>) {
        let asked = match error {
            Some(kube::Error::Api(status)) => status.details.as_ref().map_or(0, |details| details.retry_after_seconds),
            _ => 0,
        };
        // A server that lists, and then breaks off at once, has not recovered.
        if self.rested.elapsed() > RECOVERED {
            self.pauses.reset();
        }
        tokio::time::sleep(self.pauses.next().max(Duration::from_secs(asked.into()))).await;
        self.rested = Instant::now();
    }
}

/// What an error says.
pub fn said(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        error => chain(error),
    }
}
