//! What the tests have in common.

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use e2e::cri::Endpoint;
use e2e::cri::proto::*;
use e2e::{BUSYBOX, deadline, inspect};
use rustix::process::Pid;

/// A pod of a test's own: a name that no other has, on whichever runtime.
pub struct Pod<'e> {
    pub endpoint: &'e dyn Endpoint,
    pub config: PodSandboxConfig,
    pub id: String,
}

/// The last line of what a command says.
pub const END: &str = "-said-";

static COUNT: AtomicUsize = AtomicUsize::new(0);

/// A name that no other test has.
pub fn unique(what: &str) -> String {
    format!("{what}-{}", COUNT.fetch_add(1, Ordering::Relaxed))
}

impl<'e> Pod<'e> {
    /// A pod with nothing special.
    #[track_caller]
    pub fn new(endpoint: &'e dyn Endpoint) -> Self {
        Self::with(endpoint, |_| {})
    }

    /// A pod with a changed configuration.
    #[track_caller]
    pub fn with(endpoint: &'e dyn Endpoint, change: impl FnOnce(&mut PodSandboxConfig)) -> Self {
        let mut config = endpoint.pod(&unique("pod"));
        change(&mut config);
        let id = endpoint.run_pod(&config);
        Self { endpoint, config, id }
    }

    /// A pod with changed namespaces.
    #[track_caller]
    pub fn with_namespaces(endpoint: &'e dyn Endpoint, options: NamespaceOption) -> Self {
        Self::with(endpoint, |config| {
            let linux = config.linux.get_or_insert_default();
            linux.security_context.get_or_insert_default().namespace_options = Some(options);
        })
    }

    /// A container of the pod that runs a script.
    pub fn script(&self, name: &str, script: &str) -> ContainerConfig {
        self.endpoint.container(name, BUSYBOX, &["sh", "-c", script])
    }

    /// A started container that waits to be killed.
    #[track_caller]
    pub fn keeper(&self, change: impl FnOnce(&mut ContainerConfig)) -> String {
        let mut config = self.script(&unique("c"), "trap 'exit 0' TERM; while :; do sleep 1000 & wait; done");
        change(&mut config);
        self.endpoint.run_container(&self.id, &self.config, &config)
    }

    /// CreateContainer.
    #[track_caller]
    pub fn create(&self, config: &ContainerConfig) -> String {
        self.endpoint.create_container(&self.id, &self.config, config)
    }

    /// CreateContainer and StartContainer.
    #[track_caller]
    pub fn run(&self, config: &ContainerConfig) -> String {
        self.endpoint.run_container(&self.id, &self.config, config)
    }

    /// CreateContainer, StartContainer, the wait for the end.
    #[track_caller]
    pub fn run_to_end(&self, config: &ContainerConfig) -> ContainerStatus {
        self.endpoint.run_to_end(&self.id, &self.config, config)
    }

    /// What a script prints, on either stream, in a container with a changed configuration; it must exit with 0.
    #[track_caller]
    pub fn says(&self, script: &str, change: impl FnOnce(&mut ContainerConfig)) -> String {
        // Two streams are two pipes, between which neither runtime keeps an order.
        let one_stream = format!("exec 2>&1; trap 'echo {END}' EXIT; {script}");
        let mut config = self.script(&unique("says"), &one_stream);
        change(&mut config);
        let status = self.run_to_end(&config);
        let said = self.log_to_its_end(&config);
        assert_eq!(status.exit_code, 0, "{script:?} on {}: {said:#?} {status:#?}", self.endpoint.name());
        said.join("\n")
    }

    /// The lines of an ended container's log before [`END`], which the oracle may still be writing when it says that the
    /// container ended.
    #[track_caller]
    fn log_to_its_end(&self, config: &ContainerConfig) -> Vec<String> {
        let deadline = Instant::now() + deadline();
        loop {
            let mut lines: Vec<String> =
                self.endpoint.logs(&self.config, config).into_iter().map(|it| it.text).collect();
            if lines.last().is_some_and(|last| last.trim_end() == END) {
                lines.pop();
                return lines;
            }
            assert!(Instant::now() < deadline, "the log of {} has no end: {lines:#?}", self.endpoint.name());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// CreateContainer or StartContainer must fail; with what, if either does.
    #[track_caller]
    pub fn refuses(&self, change: impl FnOnce(&mut ContainerConfig)) -> String {
        let mut config = self.script(&unique("refused"), "sleep 1000");
        change(&mut config);
        let created = self.endpoint.try_create_container(&self.id, &self.config, &config);
        let started = created.and_then(|id| self.endpoint.try_start_container(&id));
        started.expect_err("it is refused").to_string()
    }

    /// The sandbox's state.
    #[track_caller]
    pub fn state(&self) -> PodSandboxState {
        self.endpoint.pod_status(&self.id).state()
    }
}

impl Drop for Pod<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        let pod_sandbox_id = self.id.clone();
        let stopped = self.endpoint.client().stop_pod_sandbox(StopPodSandboxRequest { pod_sandbox_id });
        match stopped {
            Ok(_) => self.endpoint.remove_pod(&self.id),
            // The test has removed it.
            Err(status) if status.code() == tonic::Code::NotFound => {}
            Err(status) => panic!("StopPodSandbox on {}: {status}", self.endpoint.name()),
        }
    }
}

/// The security context of a container.
pub fn security(config: &mut ContainerConfig) -> &mut LinuxContainerSecurityContext {
    config.linux.get_or_insert_default().security_context.get_or_insert_default()
}

/// The resources of a container.
pub fn resources(config: &mut ContainerConfig) -> &mut LinuxContainerResources {
    config.linux.get_or_insert_default().resources.get_or_insert_default()
}

/// A number that may be absent.
pub fn number(value: i64) -> Option<Int64Value> {
    Some(Int64Value { value })
}

/// A container's image.
pub fn image(name: &str) -> Option<ImageSpec> {
    Some(ImageSpec { image: name.into(), ..Default::default() })
}

/// Marks a container for [`marked`] and returns the mark.
pub fn mark(config: &mut ContainerConfig) -> String {
    let value = format!("{}-{}", std::process::id(), unique("mark"));
    config.envs.push(KeyValue { key: "E2E_MARK".into(), value: value.clone().into_bytes() });
    format!("E2E_MARK={value}")
}

/// The first process of a marked container.
#[track_caller]
pub fn marked(mark: &str) -> Pid {
    let all = || {
        let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        let mut pids: Vec<i32> = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
        pids.sort_unstable();
        let has = |pid: &Pid| inspect::environment(*pid).iter().any(|entry| entry == mark);
        // runc's own init has the environment before the program does, and is in another state then.
        let is_program = |pid: &Pid| !inspect::command_line(*pid).contains("runc");
        pids.into_iter().filter_map(Pid::from_raw).find(|pid| has(pid) && is_program(pid))
    };
    inspect::wait_for(all).unwrap_or_else(|| panic!("no process has {mark}"))
}

/// A file of a marked container's cgroup, and whether it is version 2's.
#[track_caller]
pub fn cgroup_file(pid: Pid, controller: &str, v1: &str, v2: &str) -> Result<String, String> {
    let dir = inspect::cgroup_of(pid, controller).ok_or("no cgroup")?;
    let paths: [PathBuf; 2] = [dir.join(format!("{controller}.{v1}")), dir.join(format!("{controller}.{v2}"))];
    let found = paths.iter().find(|path| path.exists());
    let path = found.ok_or_else(|| format!("this machine has no {controller}.{v1} and no {controller}.{v2}"))?;
    std::fs::read_to_string(path).map(|text| text.trim().to_owned()).map_err(|error| error.to_string())
}

/// Whether limits of version 1 are in force for a controller.
pub fn is_v1(pid: Pid, controller: &str) -> bool {
    inspect::cgroup_of(pid, controller).is_some_and(|dir| !dir.join("cgroup.controllers").exists())
}
