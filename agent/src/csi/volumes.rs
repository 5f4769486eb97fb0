//! A volume's way into a pod and out of it, with a record before each call.
//!
//! ```text
//!  Used: Wanted ──> (attached) ──> Staged: Begun ──NodeStage──> Done ──> Used: Begun ──NodePublish──> Done
//!  the pod ends:     NodeUnpublish ──> no Used ──> was it the last of the volume? NodeUnstage ──> no Staged
//! ```
//!
//! An agent that is killed anywhere finds in the records what may have been asked for, and asks for the same, or for its
//! opposite: CSI wants drivers to bear both. Calls of one volume come one after the other; others do not wait for it.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::OwnedMutexGuard;
use tokio::time::Instant;

use super::drivers::Driver;
use super::records::{Phase, Staged, Used, VolumeKey, clear, unique};
use super::wish::hex;
use super::{ATTACHED, Csi, CsiError, Failure, Published, Wish, pauses};
use crate::host::{PodDir, make_dir, teardown};

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Csi {
    /// Has a volume mounted for a pod whose directory is `pod`. What is mounted already is not asked for again.
    pub async fn publish(&self, wish: &Wish, pod: &PodDir) -> Result<Published, CsiError> {
        let path = pod.volume("csi", &wish.name).join("mount");
        let done = |used: &Used| Published {
            path: path.clone(),
            read_only: wish.read_only,
            hand_over: wish.group.filter(|_| wish.hands_over && !used.grouped),
        };
        if let Some(used) = self.done(wish) {
            return Ok(done(&used));
        }
        let kubelet = self.inner.dir.as_ref().ok_or_else(|| CsiError::NoDirectory(wish.name.clone()))?;
        let driver = self.inner.drivers.get(&wish.driver)?;
        let _turn = self.turn(&(wish.driver.clone(), wish.handle.clone())).await;
        if let Some(used) = self.done(wish) {
            return Ok(done(&used));
        }
        let target =
            kubelet.join("pods").join(&wish.pod).join("volumes/kubernetes.io~csi").join(&wish.name).join("mount");
        let before = self.inner.records.used(&wish.pod, &wish.volume);
        let mut used = before.unwrap_or_else(|| Used::new(wish, target.clone()));
        // What looks like a kubelet's directory may be another one by now.
        used.target.clone_from(&target);
        self.put(&used).await?;
        self.tell_in_use();
        if wish.attachable {
            self.attached(wish).await?;
        }
        let staging = self.stage(wish, kubelet, &driver).await?;
        make_dir(&pod.volume("csi", &wish.name), 0o750)?;
        used.phase = Phase::Begun;
        self.put(&used).await?;
        if let Err(error) = driver.publish(wish, staging.as_deref(), &target).await {
            if error.is_final() {
                used.phase = Phase::Wanted;
                self.put(&used).await?;
                let _ = clear(&target);
            }
            return Err(error);
        }
        used.grouped = driver.groups();
        used.phase = Phase::Done(self.inner.boot.clone());
        self.put(&used).await?;
        Ok(done(&used))
    }

    fn done(&self, wish: &Wish) -> Option<Used> {
        let used = self.inner.records.used(&wish.pod, &wish.volume)?;
        (used.phase == Phase::Done(self.inner.boot.clone())).then_some(used)
    }

    /// Waits until the API server knows that the volume is in use here and attached: before, it may still be taken away.
    async fn attached(&self, wish: &Wish) -> Result<(), CsiError> {
        let name = unique(&(wish.driver.clone(), wish.handle.clone()));
        let not_yet = |what: &str| CsiError::Waits(format!("{what} for volume \"{}\"", wish.name));
        let mut node = match self.inner.link.get() {
            Some(link) => link.node(),
            None => return Err(not_yet("Volume not attached according to node status")),
        };
        let known = node.wait_for(|node| {
            let status = node.as_ref().and_then(|node| node.status.as_ref());
            status.is_some_and(|status| {
                status.volumes_in_use.iter().flatten().any(|it| *it == name)
                    && status.volumes_attached.iter().flatten().any(|it| it.name == name)
            })
        });
        match tokio::time::timeout(ATTACHED, known).await {
            Ok(Ok(_)) => Ok(()),
            _ => Err(not_yet("Volume not attached according to node status")),
        }
    }

    /// Makes a volume ready for the node, where its driver wants that.
    async fn stage(&self, wish: &Wish, kubelet: &Path, driver: &Driver) -> Result<Option<PathBuf>, CsiError> {
        if wish.ephemeral || !driver.stages() {
            return Ok(None);
        }
        let volume = hex(&[&wish.handle]);
        let of_driver = kubelet.join("plugins/kubernetes.io/csi").join(&wish.driver);
        let path = of_driver.join(volume).join("globalmount");
        let before = self.inner.records.staged(&(wish.driver.clone(), wish.handle.clone()));
        let is_done = |it: &Staged| it.phase == Phase::Done(self.inner.boot.clone());
        if before.as_ref().is_some_and(is_done) {
            return Ok(Some(path));
        }
        let mut staged = Staged::new(wish, path.clone());
        self.put_staged(&staged).await?;
        make_dir(&path, 0o750)?;
        if let Err(error) = driver.stage(wish, &path).await {
            // What a driver refuses, it has not done; what it has not answered, it may do yet.
            if error.is_final() && clear(&path).is_ok() {
                self.off(move |records| records.remove_staged(&staged)).await?;
            }
            return Err(error);
        }
        staged.phase = Phase::Done(self.inner.boot.clone());
        self.put_staged(&staged).await?;
        Ok(Some(path))
    }

    /// Has everything unmounted that drivers have mounted for a pod; what could not be, each with the reason. What nobody
    /// uses then is unstaged beside it.
    pub async fn unpublish(&self, pod: &str) -> Vec<String> {
        let mut problems = Vec::new();
        for used in self.inner.records.used_by(pod) {
            if let Err(why) = self.unpublish_in_time(&used).await {
                problems.push(format!("UnmountVolume.TearDown failed for volume \"{}\" : {why}", used.volume));
            }
        }
        problems
    }

    /// Begins to [`Csi::unpublish`] for a pod that is over, and does not wait for it; whether nothing is left to be done.
    pub fn give_back(&self, pod: &str) -> bool {
        if self.inner.records.used_by(pod).is_empty() {
            return true;
        }
        if lock(&self.inner.giving_back).insert(pod.to_owned()) {
            let (csi, pod) = (self.clone(), pod.to_owned());
            tokio::spawn(async move {
                if let Some(why) = csi.unpublish(&pod).await.first() {
                    tracing::warn!(
                        uid = pod,
                        why,
                        "a volume of a pod that is over cannot be given back yet; it is tried again"
                    );
                }
                lock(&csi.inner.giving_back).remove(&pod);
            });
        }
        false
    }

    /// Tries it, unless it failed lately.
    async fn unpublish_in_time(&self, used: &Used) -> Result<(), String> {
        let key = (used.pod.clone(), used.volume.clone());
        let is_there = self.inner.drivers.get(&used.driver).is_ok();
        if let Some(failure) = lock(&self.inner.failures).get(&key)
            && Instant::now() < failure.until
            && is_there
        {
            return Err(failure.why.clone());
        }
        let result = self.unpublish_one(used).await.map_err(|error| error.to_string());
        let mut failures = lock(&self.inner.failures);
        match &result {
            Ok(()) => drop(failures.remove(&key)),
            // Nobody was asked: once there is a driver it is asked at once.
            Err(_) if !is_there => drop(failures.remove(&key)),
            Err(why) => {
                let now = Instant::now();
                let failure =
                    failures.entry(key).or_insert_with(|| Failure { why: String::new(), pauses: pauses(), until: now });
                failure.why.clone_from(why);
                failure.until = now + failure.pauses.next();
            }
        }
        result
    }

    async fn unpublish_one(&self, used: &Used) -> Result<(), CsiError> {
        let _turn = self.turn(&used.key()).await;
        // As it is now: somebody else may have been here.
        let Some(used) = self.inner.records.used(&used.pod, &used.volume) else { return Ok(()) };
        if used.phase != Phase::Wanted {
            if !self.is_supported() {
                return Err(CsiError::NoDirectory(used.volume));
            }
            let driver = self.inner.drivers.get(&used.driver)?;
            let (root, pod) = (self.inner.root.clone(), used.pod.clone());
            self.off(move |_| Ok(teardown::remove_pod_parts(&root, &pod)?)).await?;
            driver.unpublish(&used.handle, &used.target).await?;
        }
        clear(&used.target)?;
        self.off(move |records| records.remove_used(&used)).await?;
        self.tell_in_use();
        self.inner.unused.notify_one();
        Ok(())
    }

    async fn unstage(&self, key: &VolumeKey) -> Result<(), CsiError> {
        let _turn = self.turn(key).await;
        if self.inner.records.is_used(key) {
            return Ok(());
        }
        let Some(staged) = self.inner.records.staged(key) else { return Ok(()) };
        let driver = self.inner.drivers.get(&staged.driver)?;
        driver.unstage(&staged.handle, &staged.path).await?;
        clear(&staged.path)?;
        self.off(move |records| records.remove_staged(&staged)).await?;
        self.tell_in_use();
        Ok(())
    }

    /// Waits until nobody else works on a volume.
    async fn turn(&self, key: &VolumeKey) -> OwnedMutexGuard<()> {
        let mine = {
            let mut turns = lock(&self.inner.turns);
            turns.retain(|_, turn| Arc::strong_count(turn) > 1);
            turns.entry(key.clone()).or_default().clone()
        };
        mine.lock_owned().await
    }

    fn tell_in_use(&self) {
        let now = self.inner.records.in_use();
        self.inner.in_use.send_if_modified(|told| {
            let changed = *told != now;
            *told = now;
            changed
        });
    }

    async fn put(&self, used: &Used) -> Result<(), CsiError> {
        let used = used.clone();
        self.off(move |records| records.put_used(&used)).await
    }

    async fn put_staged(&self, staged: &Staged) -> Result<(), CsiError> {
        let staged = staged.clone();
        self.off(move |records| records.put_staged(&staged)).await
    }

    /// Writes records off the async threads; done whole even if nobody waits for it any more.
    async fn off(
        &self,
        work: impl FnOnce(&super::Records) -> Result<(), CsiError> + Send + 'static,
    ) -> Result<(), CsiError> {
        let inner = self.inner.clone();
        match tokio::task::spawn_blocking(move || work(&inner.records)).await {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic.into_panic()),
        }
    }
}

/// Unstages what nobody uses, each volume for itself and as often as it takes.
pub(super) async fn sweep(csi: Csi) {
    let going_on: Arc<Mutex<HashSet<VolumeKey>>> = Arc::default();
    let mut tasks = tokio::task::JoinSet::new();
    loop {
        for key in csi.inner.records.unused() {
            if lock(&going_on).insert(key.clone()) {
                let (csi, going_on) = (csi.clone(), going_on.clone());
                tasks.spawn(async move {
                    until_unstaged(&csi, &key).await;
                    lock(&going_on).remove(&key);
                    // It may have been used and given back meanwhile.
                    csi.inner.unused.notify_one();
                });
            }
        }
        csi.inner.unused.notified().await;
        while tasks.try_join_next().is_some() {}
    }
}

async fn until_unstaged(csi: &Csi, key: &VolumeKey) {
    let (mut pauses, mut said) = (pauses(), String::new());
    let mut drivers = csi.inner.drivers.changes();
    while let Err(error) = csi.unstage(key).await {
        let why = error.to_string();
        if why == said {
            tracing::debug!(driver = key.0, volume = key.1, why, "a volume is not unstaged yet");
        } else {
            tracing::warn!(driver = key.0, volume = key.1, why, "a volume cannot be unstaged yet; it is tried again");
            said = why;
        }
        tokio::select! {
            () = pauses.wait() => {}
            Ok(()) = drivers.changed() => {}
        }
    }
}
