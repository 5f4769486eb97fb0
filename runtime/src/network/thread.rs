//! The one thread of this process that changes links, addresses and routes.
//!
//! The kernel admits one such change at a time (RTNL), so more threads would only wait for each other. It stays in the
//! host's network namespace but for moments: to open a socket in a pod's.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::mpsc;

use rustix::fs::{Mode, OFlags};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::rtnl::Rtnl;

type Job = Box<dyn FnOnce(&mut Host) + Send>;

/// What a job works with.
pub struct Host {
    /// A socket in the host's network namespace.
    pub rtnl: Rtnl,
    home: OwnedFd,
}

/// The thread. It ends when this is dropped.
pub struct Thread {
    jobs: mpsc::Sender<Job>,
}

impl Thread {
    /// Starts it in the calling thread's network namespace.
    pub fn start() -> io::Result<Self> {
        let mut host = Host { rtnl: Rtnl::open()?, home: open_own()? };
        let (jobs, received) = mpsc::channel::<Job>();
        std::thread::Builder::new().name("network".into()).spawn(move || {
            // A new thread has its parent's namespaces.
            for job in received {
                job(&mut host);
            }
        })?;
        Ok(Self { jobs })
    }

    /// Has a job run beside what the caller goes on with.
    pub fn begin<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Host) -> io::Result<T> + Send + 'static,
    ) -> io::Result<Pending<T>> {
        let (answer, answered) = mpsc::sync_channel(1);
        let job = Box::new(move |host: &mut Host| {
            // Nobody waits any more if it cannot be told.
            let _ = answer.send(job(host));
        });
        self.jobs.send(job).map_err(|_| lost())?;
        Ok(Pending { answered })
    }
}

/// A job's answer to come.
pub struct Pending<T> {
    answered: mpsc::Receiver<io::Result<T>>,
}

impl<T> Pending<T> {
    /// Waits for it.
    pub fn wait(self) -> io::Result<T> {
        self.answered.recv().map_err(|_| lost())?
    }
}

fn lost() -> io::Error {
    io::Error::other("the network thread has died; start coracle again")
}

impl Host {
    /// A socket in another network namespace.
    pub fn open_in(&self, namespace: BorrowedFd<'_>) -> io::Result<Rtnl> {
        move_into_link_name_space(namespace, Some(LinkNameSpaceType::Network))?;
        let opened = Rtnl::open();
        if let Err(error) = move_into_link_name_space(self.home.as_fd(), Some(LinkNameSpaceType::Network)) {
            // What this thread did from here on would happen to a pod: it must not go on.
            tracing::error!(%error, "the network thread cannot leave a pod's namespace");
            std::process::abort();
        }
        opened
    }
}

/// The calling thread's network namespace.
pub fn open_own() -> io::Result<OwnedFd> {
    Ok(rustix::fs::open("/proc/thread-self/ns/net", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?)
}
