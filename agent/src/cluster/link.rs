//! The way to the API server.

use kube::Client;
use tokio::sync::watch;

/// The way to the API server, which may not be known yet, and may become another: a certificate is renewed. Cheap to clone.
#[derive(Clone)]
pub struct Link {
    client: watch::Receiver<Option<Client>>,
}

/// The other end of a [`Link`]: what makes the way known.
pub struct Way {
    client: watch::Sender<Option<Client>>,
}

impl Way {
    /// A way that is not known yet.
    pub fn new() -> (Self, Link) {
        let (sender, client) = watch::channel(None);
        (Self { client: sender }, Link { client })
    }

    /// From now on it is this one.
    pub fn set(&self, client: Client) {
        self.client.send_replace(Some(client));
    }
}

impl Link {
    /// The client to ask with now; waits until there is one. Never ends when there will be none: then the agent ends.
    pub async fn client(&self) -> Client {
        let mut receiver = self.client.clone();
        match receiver.wait_for(Option::is_some).await.map(|client| client.clone()) {
            Ok(Some(client)) => client,
            Ok(None) | Err(_) => std::future::pending().await,
        }
    }
}
