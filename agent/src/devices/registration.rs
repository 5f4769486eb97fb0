//! Where plug-ins register: `kubelet.sock` in their directory, for root alone.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use cri_proto::device_plugin::registration_server::{Registration, RegistrationServer};
use cri_proto::device_plugin::{Empty, ListAndWatchResponse, RegisterRequest};
use tokio::task::JoinHandle;
use tonic::{Request, Response, Status, Streaming};

use super::plugin::Plugin;
use super::{Devices, directory, list};
use crate::cri_socket::Place;

/// The version of the API that is spoken.
const VERSION: &str = "v1beta1";

/// How long nothing is read of a plug-in after a list: one that tells without end is heard now and then.
const PAUSE: Duration = Duration::from_secs(1);

struct Registrar {
    devices: Devices,
    dir: Arc<OwnedFd>,
}

impl Devices {
    /// Lets plug-ins register in `dir` from now on, until the task ends.
    pub fn serve(&self, dir: &Path) -> anyhow::Result<JoinHandle<()>> {
        let opened = runtime::store::open_dir(dir).with_context(|| format!("open {}", dir.display()))?;
        let place = Place::take(&dir.join(directory::OWN))?;
        directory::sweep(dir).with_context(|| format!("remove old sockets of device plug-ins in {}", dir.display()))?;
        // Who sees it come registers anew.
        let socket = place.listen()?;
        let registrar = Registrar { devices: self.clone(), dir: Arc::new(opened) };
        Ok(tokio::spawn(async move {
            let server = tonic::transport::Server::builder().add_service(RegistrationServer::new(registrar));
            if let Err(error) = server.serve_with_incoming(socket.connections()).await {
                tracing::error!(%error, "device plug-ins cannot register any more; restart the agent");
            }
        }))
    }
}

#[tonic::async_trait]
impl Registration for Registrar {
    async fn register(&self, request: Request<RegisterRequest>) -> Result<Response<Empty>, Status> {
        let RegisterRequest { version, endpoint, resource_name: resource, .. } = request.into_inner();
        let registered = self.registered(&version, &endpoint, &resource).await;
        if let Err(status) = &registered {
            let (resource, endpoint) = (clip(&resource), clip(&endpoint));
            tracing::warn!(resource, endpoint, "a device plug-in is refused: {}", status.message());
        }
        registered.map(|()| Response::new(Empty {}))
    }
}

impl Registrar {
    async fn registered(&self, version: &str, endpoint: &str, resource: &str) -> Result<(), Status> {
        let invalid = |message: String| Err(Status::invalid_argument(message));
        if version != VERSION {
            return invalid(format!("the version {:?} is not spoken here; {VERSION} is", clip(version)));
        }
        if !manifests::is_extended_resource(resource) {
            let rule = "it is VENDOR.DOMAIN/NAME, and not of kubernetes.io";
            return invalid(format!("{:?} is not the name of an extended resource: {rule}", clip(resource)));
        }
        let socket = directory::socket(&self.dir, endpoint)
            .map_err(|error| Status::invalid_argument(format!("the endpoint {:?}: {error}", clip(endpoint))))?;
        let plugin = Plugin::dial(socket).await?;
        let serial =
            self.devices.serve_resource(resource, plugin.clone()).await.map_err(|error| {
                Status::resource_exhausted(format!("the resource cannot be taken note of: {error}"))
            })?;
        tracing::info!(resource, endpoint, "a device plug-in has registered");
        let task = tokio::spawn(listen(self.devices.clone(), resource.to_owned(), serial, plugin));
        self.devices.listens(resource, serial, task.abort_handle());
        Ok(())
    }
}

/// Hears which devices a plug-in has, until it is gone or says what cannot be.
async fn listen(devices: Devices, resource: String, serial: u64, plugin: Plugin) {
    let end = match plugin.lists().await {
        Ok(lists) => hear(&devices, &resource, serial, lists).await,
        Err(status) => Some(format!("ListAndWatch: {}", status.message())),
    };
    // Another one serves the resource by now.
    let Some(end) = end else { return };
    tracing::warn!(resource, "a device plug-in serves no more: {end}");
    devices.gone(&resource, serial);
}

async fn hear(
    devices: &Devices,
    resource: &str,
    serial: u64,
    mut lists: Streaming<ListAndWatchResponse>,
) -> Option<String> {
    loop {
        let list = match lists.message().await {
            Ok(Some(list)) => list,
            Ok(None) => return Some("it has ended".to_owned()),
            Err(status) => return Some(format!("ListAndWatch: {}", status.message())),
        };
        match list::devices(list.devices) {
            Ok(list) => {
                if !devices.listed(resource, serial, list) {
                    return None;
                }
            }
            Err(why) => return Some(format!("{why}; it is left until it registers anew")),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// As much of a name that others say as a message holds.
fn clip(text: &str) -> String {
    text.chars().take(100).collect()
}
