//! Tells the API server how the node is: at once when it has changed, else now and then.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node;
use kube::api::{Patch, PatchParams};
use tokio::time::Instant;

use super::{Failed, Telling, object, patch, register};
use crate::cluster::Way;
use crate::cluster::client::chain;
use crate::cluster::pace::{Pauses, chance};
use crate::events::{Happening, Severity};
use crate::store::{Kind, Store, Watch};

/// How often a status is tried to be told at a time, as kubelet does.
const TRIES: u32 = 5;

/// Registers the node, then tells how it is.
pub(super) async fn report(telling: Telling, way: Way) {
    let mut ending = telling.ending.clone();
    let mut changes = Changes::of(telling.store.clone());
    let name = telling.wish.name.clone();
    let mine = loop {
        match telling.store.get::<Node>("", &name) {
            Some(node) => break node,
            None => changes.next().await,
        }
    };
    let mut reporter = Reporter { due: Instant::now(), telling: telling.clone(), way, seen: Node::default() };
    reporter.register(&mine).await;
    let (mut port, mut doubtful) = (telling.port.clone(), false);
    let mut in_use = telling.in_use.clone();
    loop {
        if register::is_another_storage(&telling, &reporter.seen).await
            && let Some(mine) = telling.store.get::<Node>("", &name)
        {
            tracing::warn!("the API server has lost what it knew: the node is registered anew");
            reporter.register(&mine).await;
            // What is watched is watched from a version that is far from coming again.
            reporter.way.renew();
        }
        let why = ending.borrow_and_update().clone();
        reporter.tell(why.as_deref(), std::mem::take(&mut doubtful)).await;
        tokio::select! {
            () = changes.next() => {}
            Ok(()) = ending.changed() => {}
            Ok(()) = port.changed() => {}
            Ok(()) = in_use.changed() => {}
            () = telling.doubt.notified() => doubtful = true,
            () = tokio::time::sleep(telling.wish.update_frequency) => {}
        }
    }
}

struct Reporter {
    telling: Telling,
    way: Way,
    /// When it is told although it has not changed.
    due: Instant,
    /// As the API server had it last.
    seen: Node,
}

impl Reporter {
    async fn register(&mut self, mine: &Arc<Node>) {
        let (node, made) = register::register(&self.telling, mine).await;
        if made {
            self.telling.remark(&Node::default(), &node);
        }
        self.see(node);
    }

    fn see(&mut self, node: Arc<Node>) {
        self.seen = Node::clone(&node);
        self.way.set_node(Some(node));
    }

    async fn tell(&mut self, ending: Option<&str>, doubtful: bool) {
        let mut pauses = Pauses::new(Duration::from_millis(50), Duration::from_secs(1));
        for attempt in 0..TRIES {
            match self.attempt(ending, doubtful || attempt > 0).await {
                Ok(()) => return,
                Err(error) => {
                    let gone = (doubtful || attempt > 0) && error.code() == Some(404);
                    let error = chain(&error);
                    if gone || attempt + 1 == TRIES || self.telling.reach.since().is_some() {
                        // Whoever cannot reach the server has said so.
                        return tracing::debug!(error, "the node's status is not told; it is tried again");
                    }
                    tracing::debug!(error, "the node's status is told again");
                }
            }
            pauses.wait().await;
        }
    }

    async fn attempt(&mut self, ending: Option<&str>, anew: bool) -> Result<(), Failed> {
        let name = self.telling.wish.name.clone();
        let Some(mine) = self.telling.store.get::<Node>("", &name) else { return Ok(()) };
        let known = self.telling.link.node().borrow().clone().filter(|_| !anew);
        let nodes = self.telling.nodes().await;
        let theirs = match known {
            Some(node) => node,
            None => match self.telling.answer("get node", &name, nodes.get(&name)).await {
                Ok(node) => Arc::new(node),
                Err(error) => {
                    if error.code() == Some(404) {
                        self.way.set_node(None);
                    }
                    return Err(error);
                }
            },
        };
        // What others have done to it.
        self.telling.remark(&self.seen, &theirs);
        self.seen = Node::clone(&theirs);
        let (port, in_use) = (*self.telling.port.borrow(), self.telling.in_use.borrow().clone());
        let own = object::Own { wish: self.telling.wish.clone(), port, ending, in_use };
        let wanted = object::reported(&mine, &theirs, &own, Timestamp::now());
        let changed = patch::differ(&theirs, &wanted);
        if !changed && Instant::now() < self.due {
            return Ok(());
        }
        let Some(patch) = patch::between(&theirs, &wanted) else { return Ok(()) };
        if let Some(boot) = object::rebooted(&theirs, &wanted) {
            let message = format!("Node {name} has been rebooted, boot id: {boot}");
            self.telling.events.node(Happening::new(Severity::Warning, "Rebooted", message));
        }
        let (params, patch) = (PatchParams::default(), Patch::Strategic(patch));
        let request = nodes.patch_status(&name, &params, &patch);
        let node = self.telling.answer("tell the status of node", &name, request).await?;
        self.telling.remark(&theirs, &node);
        self.see(Arc::new(node));
        // After a change by chance, so that many nodes which change at once do not go on at once.
        let period = self.telling.wish.report_frequency;
        self.due = Instant::now() + if changed { period.mul_f64(0.5 + chance()) } else { period };
        Ok(())
    }
}

/// Says when the node's object in the store may have changed.
struct Changes {
    store: Store,
    watch: Option<Watch>,
}

impl Changes {
    fn of(store: Store) -> Self {
        let watch = store.watch(Kind::Node, store.version()).ok();
        Self { store, watch }
    }

    /// Cancel safe.
    async fn next(&mut self) {
        let fell_behind = match &mut self.watch {
            Some(watch) => watch.next().await.is_err(),
            None => true,
        };
        if fell_behind {
            *self = Self::of(self.store.clone());
        }
    }
}
