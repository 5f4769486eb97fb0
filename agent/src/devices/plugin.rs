//! What one plug-in is asked, and how long it may take.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use cri_proto::device_plugin as api;
use cri_proto::device_plugin::device_plugin_client::DevicePluginClient;
use hyper_util::rt::TokioIo;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status, Streaming};

use super::answer::Answer;
use super::directory;
use crate::cluster::client::chain;

/// How long it may take until a plug-in has taken a connection, or says something that it knows (kubelet's for the first).
const SOON: Duration = Duration::from_secs(10);

/// How long it may take to make devices ready (kubelet's KubeletPreStartContainerRPCTimeoutInSecs).
const WORK: Duration = Duration::from_secs(30);

/// The largest message that is taken, in bytes: what kubelet takes.
const MESSAGE: usize = 4 << 20;

/// A plug-in; cheap to clone. The connection ends with the last one.
#[derive(Clone, Debug)]
pub struct Plugin {
    client: DevicePluginClient<Channel>,
    options: api::DevicePluginOptions,
}

impl Plugin {
    /// Connects to a plug-in and asks what it wants to be called for.
    pub async fn dial(socket: OwnedFd) -> Result<Self, Status> {
        let socket = Arc::new(socket);
        let connect = tower::service_fn(move |_: http::Uri| {
            let socket = socket.clone();
            async move { directory::connect(&socket).await.map(TokioIo::new) }
        });
        // The address is never looked at: what connects knows the way.
        let channel = within("connect", SOON, async {
            let connected = Endpoint::from_static("http://localhost").connect_with_connector(connect).await;
            connected.map_err(|error| Status::unavailable(chain(&error)))
        });
        let client = DevicePluginClient::new(channel.await?).max_decoding_message_size(MESSAGE);
        let mut asking = client.clone();
        let asked = asking.get_device_plugin_options(api::Empty {});
        let options = within("GetDevicePluginOptions", SOON, asked).await?.into_inner();
        Ok(Plugin { client, options })
    }

    /// The lists of devices, as they come. It may take for ever until the first one does.
    pub async fn lists(&self) -> Result<Streaming<api::ListAndWatchResponse>, Status> {
        self.client.clone().list_and_watch(api::Empty {}).await.map(tonic::Response::into_inner)
    }

    /// Which of the available devices it prefers, all of `taken` among them; none where it has no preference.
    pub async fn prefers(
        &self,
        available: Vec<String>,
        taken: Vec<String>,
        size: usize,
    ) -> Result<Vec<String>, Status> {
        if !self.options.get_preferred_allocation_available {
            return Ok(vec![]);
        }
        let one = api::ContainerPreferredAllocationRequest {
            available_device_i_ds: available,
            must_include_device_i_ds: taken,
            allocation_size: i32::try_from(size).unwrap_or(i32::MAX),
        };
        let request = api::PreferredAllocationRequest { container_requests: vec![one] };
        let mut client = self.client.clone();
        let answer = within("GetPreferredAllocation", SOON, client.get_preferred_allocation(request)).await?;
        let first = answer.into_inner().container_responses.into_iter().next();
        Ok(first.map(|it| it.device_i_ds).unwrap_or_default())
    }

    /// Gives devices to a container; what it needs for them.
    pub async fn allocate(&self, devices: Vec<String>) -> Result<Answer, Status> {
        let one = api::ContainerAllocateRequest { devices_ids: devices };
        let request = api::AllocateRequest { container_requests: vec![one] };
        let answer = within("Allocate", WORK, self.client.clone().allocate(request)).await?.into_inner();
        let first = answer.container_responses.into_iter().next();
        let first = first.ok_or_else(|| Status::internal("Allocate: there is no container in its answer"))?;
        Answer::try_from(first).map_err(|why| Status::internal(format!("Allocate: {why}")))
    }

    /// Makes devices ready for another start of their container, where the plug-in wants to.
    pub async fn pre_start(&self, devices: Vec<String>) -> Result<(), Status> {
        if !self.options.pre_start_required {
            return Ok(());
        }
        let request = api::PreStartContainerRequest { devices_ids: devices };
        within("PreStartContainer", WORK, self.client.clone().pre_start_container(request)).await.map(drop)
    }
}

/// Waits for the answer of a call for so long, and names the call where there is none.
async fn within<T>(
    call: &str,
    patience: Duration,
    answer: impl Future<Output = Result<T, Status>>,
) -> Result<T, Status> {
    let named = |status: Status| Status::new(status.code(), format!("{call}: {}", status.message()));
    match tokio::time::timeout(patience, answer).await {
        Ok(answer) => answer.map_err(named),
        Err(_) => {
            let message = format!("{call}: there was no answer within {} s", patience.as_secs());
            Err(Status::new(Code::DeadlineExceeded, message))
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[tokio::test]
    async fn who_takes_a_connection_and_says_nothing_is_not_waited_for_long() {
        let dir = tempfile::tempdir().unwrap();
        let _silent = std::os::unix::net::UnixListener::bind(dir.path().join("s")).unwrap();
        let opened = runtime::store::open_dir(dir.path()).unwrap();
        let socket = directory::socket(&opened, "s").unwrap();
        tokio::time::pause();
        let refused = Plugin::dial(socket).await.unwrap_err();
        assert_eq!(refused.code(), Code::DeadlineExceeded);
        assert!(refused.message().ends_with(": there was no answer within 10 s"), "{refused}");
    }
}
