//! What every part of the runtime works with: where things are, the stores, and what is known to be going on.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use crate::cgroup::Hierarchies;
use crate::error::{During as _, Result};
use crate::ids::{boot_id, short};
use crate::images::{ImageStore, Puller, RegistryOptions};
use crate::names::Names;
use crate::network::{self, Network};
use crate::records::Cache;
use crate::shim::client::Client;
use crate::shim::protocol;
use crate::watch::Watcher;
use crate::zygote::Zygote;

/// The cgroup that shims' are in, below the root.
const SHIMS: &str = "coracle-shims";

/// Where a runtime keeps what.
#[derive(Clone, Debug)]
pub struct Options {
    /// What survives a reboot: images, containers' writable layers.
    pub root_dir: PathBuf,
    /// What is of this boot: records, sockets, pins of namespaces.
    pub state_dir: PathBuf,
    /// The directory below every cgroup hierarchy's root under which everything is.
    pub cgroup_root: String,
    /// Which boot this is; none asks the kernel. What another boot has recorded is not running.
    pub boot_id: Option<String>,
    /// The pods' network.
    pub network: network::Options,
    /// Where images come from.
    pub registry: RegistryOptions,
}

/// Records that were read, by kind.
#[derive(Default)]
pub struct Caches {
    /// `sandbox.json`
    pub sandboxes: Cache<crate::sandbox::Record>,
    /// `container.json`
    pub containers: Cache<crate::container::Record>,
    /// `network/wanted/<owner>.json`
    pub wanted: Cache<network::wanted::WantedSet>,
    /// `status.json` of containers
    pub statuses: Cache<protocol::Status>,
    /// Who containers' processes run as, of `process.json`
    pub users: Cache<crate::container::User>,
}

/// The runtime's inside.
pub struct Core {
    /// Where things are.
    pub options: Options,
    /// The images.
    pub images: ImageStore,
    /// Brings images from registries.
    pub puller: Puller,
    /// The cgroups.
    pub hierarchies: Hierarchies,
    /// Which boot this is.
    pub boot_id: String,
    /// The pods' network.
    pub network: Network,
    /// Who follows the shims.
    pub watcher: Watcher,
    /// The records that were read of late.
    pub caches: Caches,
    /// What this process is making.
    pub names: Names,
    /// The containers that were sent their stop signal: once is enough.
    pub stopping: Mutex<BTreeSet<String>>,
    /// Forks shims; none in a process that only looks.
    zygote: Option<Zygote>,
}

impl Core {
    /// Opens the directories and stores, making what is missing.
    pub fn open(options: Options, zygote: Option<Zygote>) -> Result<Arc<Self>> {
        for dir in [options.root_dir.clone(), options.state_dir.clone()] {
            make_private(&dir)?;
        }
        for name in ["sandboxes", "containers", "shims", "ns", "runs", "pods"] {
            make_private(&options.state_dir.join(name))?;
        }
        for name in ["containers", "pods"] {
            make_private(&options.root_dir.join(name))?;
        }
        let this_boot = || boot_id().during(|| "read the boot id".into());
        let images = ImageStore::open(&options.root_dir)?;
        let core = Self {
            puller: Puller::new(images.clone(), options.registry.clone()),
            images,
            hierarchies: Hierarchies::discover(Path::new("/proc"), &options.cgroup_root)?,
            boot_id: options.boot_id.clone().map_or_else(this_boot, Ok)?,
            network: Network::open(options.network.clone(), &options.root_dir, &options.state_dir)?,
            watcher: Watcher::default(),
            caches: Caches::default(),
            names: Names::default(),
            stopping: Mutex::default(),
            zygote,
            options,
        };
        Ok(Arc::new(core))
    }

    /// What forks shims.
    pub fn zygote(&self) -> Result<&Zygote> {
        self.zygote.as_ref().ok_or(crate::error::Error::NoZygote)
    }

    /// Records of a sandbox.
    pub fn sandbox_dir(&self, id: &str) -> PathBuf {
        self.options.state_dir.join("sandboxes").join(id)
    }

    /// Records of a container.
    pub fn container_dir(&self, id: &str) -> PathBuf {
        self.options.state_dir.join("containers").join(id)
    }

    /// Writable layer of a container.
    pub fn container_root(&self, id: &str) -> PathBuf {
        self.options.root_dir.join("containers").join(id)
    }

    /// Pins of a sandbox's namespaces.
    pub fn pins_dir(&self, sandbox: &str) -> PathBuf {
        self.options.state_dir.join("ns").join(short(sandbox))
    }

    /// Where shims listen.
    pub fn shims_dir(&self) -> PathBuf {
        self.options.state_dir.join("shims")
    }

    /// The cgroup that shims' are in, and those of CNI plug-ins.
    pub fn shims_cgroup(&self) -> String {
        format!("{}/{SHIMS}", self.options.cgroup_root)
    }

    /// The cgroup of a sandbox's shim.
    pub fn shim_cgroup(&self, sandbox: &str) -> String {
        format!("{}/{}", self.shims_cgroup(), short(sandbox))
    }

    /// Removes the cgroups above those of pods and shims, where they are empty. Whoever makes one in them meanwhile makes
    /// them anew.
    pub fn remove_cgroup_layout(&self) -> Result<()> {
        let root = &self.options.cgroup_root;
        for path in [self.shims_cgroup(), format!("{root}/pods"), root.clone()] {
            self.hierarchies.remove_if_empty(&path)?;
        }
        Ok(())
    }

    /// A connection to the shim of a sandbox.
    pub fn shim(&self, sandbox: &str) -> std::io::Result<Client> {
        Client::connect(&self.shims_dir(), short(sandbox))
    }
}

/// Makes a directory that nobody but root looks into.
pub fn make_private(path: &Path) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.during(|| format!("make the directory {}", path.display()))
}
