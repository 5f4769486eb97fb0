//! A node of a test's own: its directories, its cgroup root, its name for everything.

use std::ffi::OsStr;
use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use crate::archive::Packing;
use crate::finished::Finished;
use crate::leaks::{After, Leak, Network, Scope};
use crate::loopfs::{self, Mounted};
use crate::netns::{Host, HostCommand};
use crate::process::Run;
use crate::{binary, deadline, fixtures, inspect, patience};

/// What a reboot makes of the state directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StateDir {
    /// It is on a disk.
    Kept,
    /// It is a tmpfs, as `/run` is.
    Emptied,
}

/// Directories, a cgroup root and a binary. Dropping it collects everything and asserts that nothing is left.
pub struct Node {
    /// Before the directory, which holds their images.
    disks: Vec<Mounted>,
    dir: TempDir,
    binary: PathBuf,
    /// `--root-dir`
    pub root_dir: PathBuf,
    /// `--state-dir`
    pub state_dir: PathBuf,
    /// `--log-dir`
    pub log_dir: PathBuf,
    /// `--cgroup-root`: also the name of the directory that holds the others.
    pub cgroup_root: String,
    /// Where every `coracle` of the node is started.
    host: Host,
    outside: OnceLock<Host>,
    /// How the host was at first, if it is the node's own.
    network: Option<Network>,
    /// How often the power was cut.
    boots: usize,
    files: AtomicUsize,
    /// What to undo before the last check, newest first: mounts that the test itself made. Behind a lock so that
    /// threads may share the node.
    undo: Mutex<Vec<Box<dyn FnOnce() + Send>>>,
}

impl Default for Node {
    fn default() -> Self {
        Self::new()
    }
}

impl Node {
    /// A node with nothing in it.
    pub fn new() -> Self {
        Self::with_binary(binary::coracle().to_owned())
    }

    /// A node that is driven through another copy of the binary.
    pub fn with_binary(binary: PathBuf) -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("coracle-e2e-{}-{count}", std::process::id());
        let mut builder = tempfile::Builder::new();
        let dir = builder.prefix(&name).rand_bytes(0).tempdir().expect("a temporary directory");
        let path = dir.path().to_owned();
        // Without root there is none, and the tests that would need it are skipped.
        let own = crate::skip::root().map(|()| Host::new().expect("a network namespace")).ok();
        Self {
            disks: Vec::new(),
            dir,
            network: own.as_ref().map(Network::of),
            binary,
            root_dir: path.join("root"),
            state_dir: path.join("state"),
            log_dir: path.join("log"),
            cgroup_root: name,
            host: own.unwrap_or_else(Host::machine),
            outside: OnceLock::new(),
            boots: 0,
            files: AtomicUsize::new(0),
            undo: Mutex::default(),
        }
    }

    /// A node that has the busybox image.
    pub fn with_busybox() -> Result<Self, String> {
        crate::skip::root()?;
        let archive = fixtures::busybox()?;
        let node = Self::new();
        node.import(&archive);
        Ok(node)
    }

    /// A node whose directories are all on one small filesystem, with the busybox image.
    pub fn on_small_disk(megabytes: u64, inodes: u32) -> Result<Self, String> {
        crate::skip::root()?;
        let archive = fixtures::busybox()?;
        let mut node = Self::new();
        let (image, disk) = (node.dir().join("disk.img"), node.dir().join("disk"));
        let mounted = loopfs::mount_small(&image, &disk, megabytes, inodes);
        node.disks.push(mounted.map_err(|why| format!("no small filesystem: {why}"))?);
        // The checker looks for the paths as the filesystem itself spells them too: they need a name of their own.
        let home = disk.join(&node.cgroup_root);
        (node.root_dir, node.state_dir, node.log_dir) = (home.join("root"), home.join("state"), home.join("log"));
        std::fs::create_dir(&home).expect("the filesystem is writable");
        node.import(&archive);
        Ok(node)
    }

    /// A node with the busybox image whose root directory is on a mount that hands on what is mounted in it, as all are where
    /// systemd is.
    pub fn on_shared_mount() -> Result<Self, String> {
        crate::skip::root()?;
        let archive = fixtures::busybox()?;
        let mut node = Self::new();
        let memory = node.make_dir("memory");
        node.disks.push(Mounted::new(&["-t", "tmpfs", "tmpfs"], &memory)?);
        rustix::mount::mount_change(&memory, rustix::mount::MountPropagationFlags::SHARED)
            .map_err(|error| format!("cannot share {}: {error}", memory.display()))?;
        let home = memory.join(&node.cgroup_root);
        std::fs::create_dir(&home).map_err(|error| format!("cannot create {}: {error}", home.display()))?;
        node.root_dir = home.join("root");
        node.import(&archive);
        Ok(node)
    }

    /// A node with the busybox image whose root directory and logs are on an ext4 of their own and whose state directory
    /// is in memory, as `/var/lib` and `/run` are: what is measured does not depend on what else the machine's disk holds.
    /// (One without a journal looks the longer for a new inode the more were deleted in the minutes before.)
    pub fn with_disks(megabytes: u64) -> Result<Self, String> {
        crate::skip::root()?;
        let archive = fixtures::busybox()?;
        let mut node = Self::new();
        let (image, disk, memory) = (node.dir().join("disk.img"), node.dir().join("disk"), node.dir().join("memory"));
        node.disks.push(loopfs::mount_ext4(&image, &disk, megabytes, &[])?);
        std::fs::create_dir(&memory).map_err(|error| format!("cannot create {}: {error}", memory.display()))?;
        node.disks.push(Mounted::new(&["-t", "tmpfs", "tmpfs"], &memory)?);
        let homes = [disk.join(&node.cgroup_root), memory.join(&node.cgroup_root)];
        for home in &homes {
            std::fs::create_dir(home).map_err(|error| format!("cannot create {}: {error}", home.display()))?;
        }
        (node.root_dir, node.log_dir, node.state_dir) =
            (homes[0].join("root"), homes[0].join("log"), homes[1].join("state"));
        node.import(&archive);
        Ok(node)
    }

    /// A node on the machine next to another's: that one's way to everywhere.
    pub fn beside(other: &Node) -> Self {
        let mut node = Self::new();
        node.host = other.outside().clone();
        node.network = Some(Network::of(&node.host));
        node
    }

    /// Where the node's own filesystems are mounted.
    pub fn disks(&self) -> Vec<PathBuf> {
        self.disks.iter().map(|it| it.path().to_owned()).collect()
    }

    /// Where the small filesystem is mounted.
    pub fn disk(&self) -> Option<&Path> {
        self.disks.first().map(Mounted::path)
    }

    /// The directory that holds the others; a test may put its own files here.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Makes a directory of the test's own, for a hostPath.
    pub fn make_dir(&self, name: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        std::fs::create_dir_all(&path).expect("the temporary directory is writable");
        path
    }

    /// Runs `undo` when the node is dropped, before it is checked for leaks.
    pub fn on_drop(&mut self, undo: impl FnOnce() + Send + 'static) {
        self.undo.get_mut().unwrap_or_else(PoisonError::into_inner).push(Box::new(undo));
    }

    /// The machine that the node is on, as far as its network goes.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// A neighbour machine, and the host's way to everywhere: made when first asked for. [`netns`](crate::netns) has the addresses.
    pub fn outside(&self) -> &Host {
        self.outside.get_or_init(|| self.host.join_outside().expect("the host can be joined with a neighbour"))
    }

    /// `coracle` with this node's directories, on the node's host.
    pub fn command<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> HostCommand {
        let mut command = Command::new(&self.binary);
        command.arg("--root-dir").arg(&self.root_dir).arg("--state-dir").arg(&self.state_dir);
        command.arg("--cgroup-root").arg(&self.cgroup_root).arg("--log-dir").arg(&self.log_dir);
        if self.boots > 0 {
            command.arg("--boot-id").arg(format!("{}-boot-{}", self.cgroup_root, self.boots));
        }
        command.args(args);
        command.env_remove("RUST_LOG").env("NO_COLOR", "1");
        self.host.command(command)
    }

    /// Runs a verb to its end.
    pub fn coracle<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Finished {
        Run::start(&mut self.command(args), None).wait()
    }

    /// Starts a verb.
    pub fn start<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Run {
        Run::start(&mut self.command(args), None)
    }

    /// Makes the busybox image with another configuration and more layers, and imports it.
    pub fn import_variant(&self, reference: &str, config: Value, layers: &[Arc<Vec<u8>>]) -> Result<(), String> {
        let mut image = fixtures::busybox_image(reference, config)?;
        image.layers.extend(layers.iter().cloned());
        let path = self.dir.path().join("variant.tar");
        image.write_oci(&path, Packing::Gzip).map_err(|error| format!("cannot write {}: {error}", path.display()))?;
        self.import(&path);
        Ok(())
    }

    /// Imports an image archive.
    #[track_caller]
    pub fn import(&self, archive: &Path) {
        self.coracle(["image".as_ref(), "import".as_ref(), archive.as_os_str()]).exits(0);
    }

    /// Writes a manifest to a file and starts `coracle run` of it.
    pub fn run(&self, manifest: impl Display) -> Run {
        self.run_with(manifest, &[])
    }

    /// Writes a manifest to a file and starts `coracle run` of it with more arguments.
    pub fn run_with(&self, manifest: impl Display, args: &[&str]) -> Run {
        let file = self.manifest(manifest);
        let mut command = self.command(["run"]);
        command.args(args).arg(file);
        Run::start(&mut command, None)
    }

    /// Runs a manifest to its end.
    pub fn run_to_end(&self, manifest: impl Display) -> Finished {
        self.run(manifest).wait()
    }

    /// Writes a manifest into a file of this node.
    pub fn manifest(&self, text: impl Display) -> PathBuf {
        let count = self.files.fetch_add(1, Ordering::Relaxed);
        let path = self.dir.path().join(format!("pod-{count}.yaml"));
        std::fs::write(&path, text.to_string()).expect("the temporary directory is writable");
        path
    }

    /// All pods, as `get pods -o json` shows them.
    pub fn pods(&self) -> Vec<Value> {
        let got = self.coracle(["get", "pods", "-o", "json"]).exits(0);
        let list: Value =
            serde_json::from_str(&got.stdout()).unwrap_or_else(|error| panic!("not JSON: {error}\n{got}"));
        list["items"].as_array().unwrap_or_else(|| panic!("not a List with items\n{got}")).clone()
    }

    /// One pod by name, if it is there.
    pub fn pod(&self, name: &str) -> Option<Value> {
        self.pods().into_iter().find(|pod| pod["metadata"]["name"] == name)
    }

    /// Waits until the pod satisfies `done` and returns it.
    #[track_caller]
    pub fn wait_for_pod(&self, name: &str, what: &str, done: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + deadline();
        loop {
            let pod = self.pod(name);
            match pod {
                Some(pod) if done(&pod) => return pod,
                pod => assert!(Instant::now() < deadline, "pod {name} is never {what}: {pod:#?}"),
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until the pod is in a phase.
    #[track_caller]
    pub fn wait_for_phase(&self, name: &str, phase: &str) -> Value {
        self.wait_for_pod(name, phase, |pod| pod["status"]["phase"] == phase)
    }

    /// Waits until a container has printed a line: it runs, and has come so far.
    #[track_caller]
    pub fn wait_for_output(&self, pod: &str, container: &str, text: &str) {
        let printed = || self.coracle(["logs", pod, "-c", container]).lines.iter().any(|line| line.text.contains(text));
        inspect::wait_until(&format!("{text:?} printed by {pod}/{container}"), printed);
    }

    /// Runs a command in a running container.
    pub fn exec(&self, pod: &str, container: &str, command: &[&str]) -> Finished {
        let args = ["exec", pod, "-c", container, "--"];
        self.coracle(args.iter().chain(command))
    }

    /// Ends everything as a power cut does, and boots again: no process, mount, cgroup, link or rule is left, and what
    /// was recorded belongs to a boot that is over. The state directory stays as it is, or is empty where it was a tmpfs.
    pub fn cut_power(&mut self, state: StateDir) {
        self.scope().cut_power();
        if state == StateDir::Emptied {
            std::fs::remove_dir_all(&self.state_dir).expect("nothing is mounted there");
        }
        self.host = Host::new().expect("a network namespace");
        self.network = Some(Network::of(&self.host));
        self.outside = OnceLock::new();
        self.boots += 1;
    }

    /// The same of a host whose network stays, with what others have in it: a server that shall be there after the boot. How
    /// it is now is how it was at first for the boot that comes.
    pub fn cut_power_but_not_the_network(&mut self) {
        self.scope().cut_power();
        self.network = Some(Network::of(&self.host));
        self.boots += 1;
    }

    /// Where the leak checker looks for this node.
    pub fn scope(&self) -> Scope {
        Scope {
            root_dir: self.root_dir.clone(),
            state_dir: self.state_dir.clone(),
            log_dir: self.log_dir.clone(),
            cgroup_root: self.cgroup_root.clone(),
            binary: Some(self.binary.clone()),
            network: self.network.clone(),
        }
    }

    /// Asserts that every blob of the image store is what its name says, and that the images are these.
    #[track_caller]
    pub fn assert_images(&self, expected: &[Value]) {
        let blobs = self.root_dir.join("images/blobs/sha256");
        for entry in std::fs::read_dir(&blobs).expect("the store has blobs").flatten() {
            let data = match std::fs::read(entry.path()) {
                // Of an image that was being removed when the blobs were listed.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                data => data.expect("the blob can be read"),
            };
            let found = crate::archive::digest(&data);
            let name = entry.file_name().to_string_lossy().into_owned();
            assert_eq!(found.strip_prefix("sha256:"), Some(name.as_str()), "a blob of {} is damaged", blobs.display());
        }
        assert_eq!(self.images(), expected);
    }

    /// The images, as `image ls -o json` shows them, without the built-in one: that is made when it is first needed.
    #[track_caller]
    pub fn images(&self) -> Vec<Value> {
        let listed = self.coracle(["image", "ls", "-o", "json"]).exits(0);
        let mut list: Value =
            serde_json::from_str(&listed.stdout()).unwrap_or_else(|error| panic!("not JSON: {error}\n{listed}"));
        let images = list["images"].as_array_mut().unwrap_or_else(|| panic!("not a list of images\n{listed}"));
        images.retain(|image| image["pinned"] != true);
        std::mem::take(images)
    }

    /// Asserts that nothing is left, as it must be after a `run` has ended and after `gc`.
    #[track_caller]
    pub fn assert_nothing_left(&self) {
        let left = self.scope().settle(After::Run, patience(Duration::from_secs(3)));
        assert!(left.is_empty(), "left behind:\n{}", Leak::list(&left));
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        for undo in self.undo.get_mut().unwrap_or_else(PoisonError::into_inner).drain(..).rev() {
            undo();
        }
        let scope = self.scope();
        let used = self.state_dir.exists() || self.root_dir.exists();
        let gc = used.then(|| self.command(["gc", "--all"]).output());
        let left = scope.settle(After::GcAll, patience(Duration::from_secs(3)));
        if left.is_empty() {
            return;
        }
        let said = match gc {
            Some(Ok(output)) => String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned(),
            Some(Err(error)) => error.to_string(),
            None => "not run: the node was never used".into(),
        };
        let report = format!("after `gc --all`, left behind:\n{}`gc --all` said:\n{said}", Leak::list(&left));
        // The machine goes on to the next test: what ours left must not disturb it.
        scope.scrub();
        if std::thread::panicking() {
            eprintln!("{report}");
        } else {
            panic!("{report}");
        }
    }
}
