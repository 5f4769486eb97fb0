//! Following the shims: one thread reads what every one of them tells, and whoever waits is woken.

use std::collections::BTreeMap;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use tokio::sync::broadcast;

use crate::sandbox;
use crate::shim::client::Client;
use crate::shim::protocol::Event as ShimEvent;

/// Events that a slow listener may leave unread before it is told that it missed some.
const BACKLOG: usize = 4096;

/// What has happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A container was made.
    Created(String),
    /// A container's process runs.
    Started(String),
    /// A container's process has ended and its record says how.
    Stopped(String),
    /// A container is gone.
    Deleted(String),
    /// A sandbox was made and is ready.
    SandboxStarted(String),
    /// A sandbox was stopped, with everything in it.
    SandboxStopped(String),
    /// A sandbox is gone. This was its record.
    SandboxDeleted(Box<sandbox::Record>),
    /// A sandbox's shim has died: its containers end as Unknown.
    ShimDied(String),
}

/// Follows shims. Cheap to clone.
#[derive(Clone)]
pub struct Watcher {
    shared: Arc<Shared>,
}

struct Shared {
    /// Connections that carry events, by sandbox.
    shims: Mutex<BTreeMap<String, Arc<Client>>>,
    events: broadcast::Sender<Event>,
    /// How many events there have been, and who waits for more.
    count: Mutex<u64>,
    more: Condvar,
    wake: Mutex<Option<OwnedFd>>,
    /// Who ends what a dead shim has left, before anybody is told.
    undertaker: OnceLock<Undertaker>,
}

/// Called with the sandbox whose shim has died.
pub type Undertaker = Box<dyn Fn(&str) + Send + Sync>;

impl Default for Watcher {
    fn default() -> Self {
        let shared = Shared {
            shims: Mutex::default(),
            events: broadcast::channel(BACKLOG).0,
            count: Mutex::default(),
            more: Condvar::new(),
            wake: Mutex::default(),
            undertaker: OnceLock::new(),
        };
        Self { shared: Arc::new(shared) }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Watcher {
    /// Follows the shim of `sandbox` from now on. `client` has been told to carry events.
    pub fn follow(&self, sandbox: &str, client: Client) -> std::io::Result<()> {
        lock(&self.shared.shims).insert(sandbox.to_owned(), Arc::new(client));
        let mut wake = lock(&self.shared.wake);
        if let Some(bell) = &*wake {
            ring(bell);
            return Ok(());
        }
        let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let (shared, ours) = (Arc::clone(&self.shared), bell.try_clone()?);
        std::thread::Builder::new().name("shim-watch".into()).spawn(move || run(&shared, &ours))?;
        *wake = Some(bell);
        Ok(())
    }

    /// Sets who is called when a shim dies. The first call counts.
    pub fn on_death(&self, undertaker: Undertaker) {
        let _ = self.shared.undertaker.set(undertaker);
    }

    /// Whether it follows the shim of `sandbox`.
    pub fn follows(&self, sandbox: &str) -> bool {
        lock(&self.shared.shims).contains_key(sandbox)
    }

    /// Whether the shim of `sandbox` lives, by the connection to it, which ends with it: much cheaper than a look into
    /// /proc. None if it is not followed.
    pub fn is_connected(&self, sandbox: &str) -> Option<bool> {
        let client = lock(&self.shared.shims).get(sandbox).map(Arc::clone)?;
        let mut fds = [PollFd::new(&*client, PollFlags::empty())];
        poll(&mut fds, Some(&Timespec::default())).ok()?;
        Some(!fds[0].revents().intersects(PollFlags::HUP | PollFlags::ERR))
    }

    /// Stops following: the shim is about to be ended on purpose.
    pub fn forget(&self, sandbox: &str) {
        lock(&self.shared.shims).remove(sandbox);
        if let Some(bell) = &*lock(&self.shared.wake) {
            ring(bell);
        }
    }

    /// Everything that happens from now on.
    pub fn subscribe(&self) -> broadcast::Receiver<Event> {
        self.shared.events.subscribe()
    }

    /// Tells everybody who listens.
    pub fn announce(&self, event: Event) {
        self.shared.announce(event);
    }

    /// Waits until `done` holds, asking again after every event, and at least every 50 ms for what another process
    /// follows. False when the time was up first.
    pub fn wait_until(&self, deadline: Instant, mut done: impl FnMut() -> bool) -> bool {
        loop {
            let seen = *lock(&self.shared.count);
            if done() {
                return true;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            let count = lock(&self.shared.count);
            if *count == seen {
                let step = left.min(Duration::from_millis(50));
                drop(self.shared.more.wait_timeout(count, step).unwrap_or_else(PoisonError::into_inner));
            }
        }
    }
}

impl Shared {
    fn announce(&self, event: Event) {
        // Nobody listening is fine.
        let _ = self.events.send(event);
        *lock(&self.count) += 1;
        self.more.notify_all();
    }
}

fn ring(bell: &OwnedFd) {
    let _ = rustix::io::write(bell, &1u64.to_ne_bytes());
}

/// What is left may take its time to end: the other shims are followed meanwhile.
fn bury(shared: &Arc<Shared>, sandbox: &str) {
    let (shared, sandbox) = (Arc::clone(shared), sandbox.to_owned());
    let bury = move || {
        if let Some(undertaker) = shared.undertaker.get() {
            undertaker(&sandbox);
        }
    };
    if let Err(error) = std::thread::Builder::new().name("shim-death".into()).spawn(bury) {
        tracing::error!(%error, "no thread to end what a dead shim has left; run coracle gc");
    }
}

fn run(shared: &Arc<Shared>, bell: &OwnedFd) {
    loop {
        let shims: Vec<(String, Arc<Client>)> =
            lock(&shared.shims).iter().map(|(id, client)| (id.clone(), Arc::clone(client))).collect();
        let sources: Vec<BorrowedFd<'_>> = shims.iter().map(|(_, client)| client.as_fd()).collect();
        let mut fds = vec![PollFd::new(bell, PollFlags::IN)];
        fds.extend(sources.iter().map(|fd| PollFd::new(fd, PollFlags::IN)));
        if poll(&mut fds, None).is_err() {
            continue;
        }
        if !fds[0].revents().is_empty() {
            let _ = rustix::io::read(bell, &mut [0; 8]);
        }
        let ready: Vec<bool> = fds[1..].iter().map(|fd| !fd.revents().is_empty()).collect();
        for ((sandbox, client), _) in shims.iter().zip(ready).filter(|(_, ready)| *ready) {
            match client.event() {
                Ok(Some(ShimEvent::Exited { id })) => shared.announce(Event::Stopped(id)),
                // What other connections hear.
                Ok(Some(ShimEvent::ExecExited { .. } | ShimEvent::AttachEnded { .. } | ShimEvent::StdinClosed)) => {}
                Ok(None) | Err(_) => {
                    if lock(&shared.shims).remove(sandbox).is_some() {
                        bury(shared, sandbox);
                    }
                }
            }
        }
    }
}
