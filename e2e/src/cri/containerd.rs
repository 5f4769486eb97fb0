//! Debian's containerd with its CRI plugin: directories and a mount namespace of its own, so that it leaves
//! nothing behind and meets nobody.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use cri_proto::cri::{ImageSpec, ImageStatusRequest, VersionRequest};
use rustix::process::{Pid, Signal};
use serde_json::json;

use super::shared::SharedDir;
use super::{Client, Endpoint};
use crate::archive::Packing;
use crate::leaks::{After, Kind, Leak, Scope};
use crate::netns::Host;
use crate::{Node, Run, deadline, debian, fixtures, inspect, patience};

/// The image of a pod's own container.
const PAUSE: &str = "coracle.test/pause:1";

/// The sysctl that the network plugin sets.
const FORWARD: &str = "/proc/sys/net/ipv4/ip_forward";

/// A mount namespace in which a daemon's directory is private, and what it writes below `/run`, `/var/lib` and `/var/log`,
/// where no setting reaches, goes there too; then the daemon. The shared directory and the rest stay as they are.
const ENTER: &str = r#"
set -e
own=$1; shift
mount --bind "$own" "$own"
mount --make-private "$own"
for dir in run var/lib var/log; do
    mkdir -p "$own/above/$dir" "$own/work/$dir"
    mount --make-private "$(findmnt --noheadings --output TARGET --target "/$dir" | tail -n 1)"
    mount -t overlay -o "lowerdir=/$dir,upperdir=$own/above/$dir,workdir=$own/work/$dir" overlay "/$dir"
done
exec "$@"
"#;

/// What starts a daemon, which is said by more arguments, with a directory that holds all it writes.
pub(crate) fn apart(dir: &Path) -> Command {
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "unchanged", "sh", "-c", ENTER, "sh"]).arg(dir);
    command
}

/// A served containerd. Dropping it stops and removes every pod and everything that it started.
pub struct Containerd<'n> {
    node: &'n Node,
    host: Host,
    dir: PathBuf,
    socket: PathBuf,
    client: Client,
    shared: SharedDir,
    scope: Scope,
    ctr: PathBuf,
    run: Option<Run>,
    /// What [`FORWARD`] said before its network plugin changed it.
    forward: String,
}

/// The programs, and where Debian's packages put the network plugins.
struct Programs {
    containerd: PathBuf,
    ctr: PathBuf,
    runc: PathBuf,
    plugins: PathBuf,
    path: String,
}

impl Programs {
    fn find() -> Result<Self, String> {
        // Unpacked, not installed, where they are missing: installing starts a service.
        let unpacked = |program: &str, package: &str| match debian::which(program) {
            Some(path) => Ok(path),
            None => {
                let root = debian::unpacked(&[package])?;
                let places = ["usr/bin", "usr/sbin"].map(|place| root.join(place).join(program));
                places.into_iter().find(|path| path.is_file()).ok_or(format!("package {package} has no {program}"))
            }
        };
        let containerd = unpacked("containerd", "containerd")?;
        let runc = unpacked("runc", "runc")?;
        let plugins = match Path::new("/usr/lib/cni/ptp") {
            found if found.exists() => PathBuf::from("/usr/lib/cni"),
            _ => debian::unpacked(&["containernetworking-plugins"])?.join("usr/lib/cni"),
        };
        debian::program("findmnt", "util-linux")?;
        let own = [&containerd, &runc].map(|path| path.parent().unwrap_or(Path::new("/")).display().to_string());
        let path = format!("{}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", own.join(":"));
        Ok(Self { ctr: containerd.with_file_name("ctr"), containerd, runc, plugins, path })
    }
}

impl<'n> Containerd<'n> {
    /// Serves with the busybox image, and waits until it does; the error says why there can be none.
    pub fn start(node: &'n Node) -> Result<Self, String> {
        Self::start_with(node, None)
    }

    /// Serves with a directory of registries' settings.
    pub fn start_with(node: &'n Node, registries: Option<&Path>) -> Result<Self, String> {
        crate::skip::root()?;
        let programs = Programs::find()?;
        let busybox = fixtures::busybox()?;
        let dir = node.make_dir("containerd");
        let socket = dir.join("c.sock");
        let host = node.host().clone();
        let forward =
            host.within(|| std::fs::read_to_string(FORWARD)).map_err(|error| format!("{FORWARD}: {error}"))?;
        let scope = Scope {
            root_dir: dir.clone(),
            state_dir: dir.join("state"),
            log_dir: dir.join("logs"),
            cgroup_root: format!("{}-containerd", node.cgroup_root),
            binary: None,
            network: None,
        };
        let mut containerd = Self {
            node,
            host,
            client: Client::new(&socket),
            socket,
            shared: SharedDir::new(&node.make_dir("oracle")),
            scope,
            ctr: programs.ctr.clone(),
            run: None,
            forward,
            dir,
        };
        containerd.configure(&programs, registries).map_err(|error| format!("cannot configure it: {error}"))?;
        containerd.serve(&programs)?;
        containerd.try_import(&busybox)?;
        containerd.try_import(&containerd.pause()?)?;
        for reference in [crate::BUSYBOX, PAUSE] {
            containerd.wait_for_image(reference)?;
        }
        Ok(containerd)
    }

    fn configure(&self, programs: &Programs, registries: Option<&Path>) -> std::io::Result<()> {
        let path = |name: &str| self.dir.join(name).display().to_string();
        for name in ["root", "state", "cni", "leases", "runc"] {
            std::fs::create_dir_all(self.dir.join(name))?;
        }
        let network = json!({
            "cniVersion": "0.4.0",
            "name": "oracle",
            "plugins": [
                {"type": "ptp", "ipMasq": false, "ipam": {
                    "type": "host-local", "dataDir": path("leases"), "ranges": [[{"subnet": "10.88.0.0/16"}]],
                    "routes": [{"dst": "0.0.0.0/0"}],
                }},
            ],
        });
        std::fs::write(self.dir.join("cni/10-oracle.conflist"), network.to_string())?;
        let registries = registries.map_or_else(String::new, |dir| format!("config_path = \"{}\"", dir.display()));
        let text = format!(
            r#"version = 2
root = "{root}"
state = "{state}"
disabled_plugins = ["io.containerd.internal.v1.opt", "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs"]
[grpc]
  address = "{socket}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE}"
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true
  stream_server_address = "127.0.0.1"
  stream_server_port = "0"
  tolerate_missing_hugetlb_controller = true
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        BinaryName = "{runc}"
        Root = "{runc_root}"
        SystemdCgroup = false
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{plugins}"
    conf_dir = "{networks}"
  [plugins."io.containerd.grpc.v1.cri".registry]
    {registries}
"#,
            root = path("root"),
            state = path("state"),
            socket = self.socket.display(),
            runc = programs.runc.display(),
            runc_root = path("runc"),
            plugins = programs.plugins.display(),
            networks = path("cni"),
        );
        std::fs::write(self.dir.join("config.toml"), text)
    }

    fn serve(&mut self, programs: &Programs) -> Result<(), String> {
        let mut command = apart(&self.dir);
        command.arg(&programs.containerd).args(["--log-level", "warn", "--config"]).arg(self.dir.join("config.toml"));
        command.env("PATH", &programs.path);
        let run = Run::start(&mut self.host.command(command), None);
        let run = self.run.insert(run);
        let deadline = Instant::now() + deadline();
        while self.client.version(VersionRequest::default()).is_err() {
            if !run.is_running() || Instant::now() > deadline {
                return Err(format!("containerd does not come up: {:#?}", run.lines()));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    /// The archive of an image that waits to be killed.
    fn pause(&self) -> Result<PathBuf, String> {
        let image = fixtures::busybox_image(PAUSE, json!({"Cmd": ["sleep", "2147483647"]}))?;
        let path = self.dir.join("pause.tar");
        image.write_oci(&path, Packing::Gzip).map_err(|error| error.to_string())?;
        Ok(path)
    }

    fn try_import(&self, archive: &Path) -> Result<(), String> {
        let mut command = Command::new(&self.ctr);
        command.arg("--address").arg(&self.socket).args(["--namespace", "k8s.io", "image", "import"]).arg(archive);
        let output = command.output().map_err(|error| format!("ctr: {error}"))?;
        let said = String::from_utf8_lossy(&output.stderr);
        if output.status.success() { Ok(()) } else { Err(format!("ctr image import: {}", said.trim())) }
    }

    /// Waits until the CRI plugin knows an image: it hears of imports by events.
    fn wait_for_image(&self, reference: &str) -> Result<(), String> {
        let deadline = Instant::now() + deadline();
        loop {
            let image = Some(ImageSpec { image: reference.into(), ..Default::default() });
            let answer = self.client.image_status(ImageStatusRequest { image, verbose: false });
            if answer.is_ok_and(|answer| answer.image.is_some()) {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(format!("containerd never knows the image {reference}"));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The socket.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// The daemon.
    pub fn pid(&self) -> Option<Pid> {
        self.run.as_ref().map(Run::pid)
    }

    /// The processes of its pods: shims, and all in containers.
    pub fn of_pods(&self) -> Vec<Pid> {
        let socket = self.socket.display().to_string();
        let is_shim = |pid: &Pid| {
            let line = inspect::command_line(*pid);
            line.contains("containerd-shim") && line.contains(&socket)
        };
        let mut found: Vec<Pid> = inspect::all().into_iter().filter(is_shim).collect();
        found.extend(inspect::in_cgroups(&self.scope.cgroup_root));
        found
    }

    /// What it has started and left, its files apart: those go with the node's directory.
    fn left(&self, patience: Duration) -> Vec<Leak> {
        let deadline = Instant::now() + patience;
        loop {
            let mut left = self.scope.find(After::GcAll);
            // A mount in a namespace that a process holds is told of by that process.
            left.retain(|leak| !matches!(leak.kind, Kind::File | Kind::Lease));
            if left.is_empty() || Instant::now() > deadline {
                return left;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Endpoint for Containerd<'_> {
    fn name(&self) -> &'static str {
        "containerd"
    }

    fn client(&self) -> &Client {
        &self.client
    }

    fn node(&self) -> &Node {
        self.node
    }

    fn host(&self) -> &Host {
        &self.host
    }

    fn dir(&self) -> &Path {
        self.shared.path().parent().expect("it is below a directory")
    }

    fn shared_dir(&self) -> &Path {
        self.shared.path()
    }

    fn cgroup_parent(&self) -> String {
        format!("/{}", self.scope.cgroup_root)
    }

    fn import(&self, archive: &Path, reference: &str) {
        let imported = self.try_import(archive).and_then(|()| self.wait_for_image(reference));
        imported.unwrap_or_else(|why| panic!("{why}"));
    }
}

impl Drop for Containerd<'_> {
    fn drop(&mut self) {
        let mut failed = Vec::new();
        if let Some(mut run) = self.run.take() {
            if run.is_running() {
                failed.extend(self.remove_everything().err());
                run.signal(Signal::TERM);
                let deadline = Instant::now() + patience(Duration::from_secs(10));
                while run.is_running() && Instant::now() < deadline {
                    std::thread::sleep(Duration::from_millis(20));
                }
            }
            if !failed.is_empty() {
                failed.extend(run.lines().into_iter().map(|line| line.text));
            }
        }
        self.scope.cut_power();
        let forward = self.host.within(|| std::fs::write(FORWARD, &self.forward));
        failed.extend(forward.err().map(|error| format!("{FORWARD}: {error}")));
        failed.extend(self.left(patience(Duration::from_secs(3))).iter().map(ToString::to_string));
        if !failed.is_empty() {
            let said = failed.into_iter().collect::<BTreeSet<_>>();
            let report = format!("the oracle cannot be removed: {said:#?}");
            if std::thread::panicking() { eprintln!("{report}") } else { panic!("{report}") }
        }
    }
}
