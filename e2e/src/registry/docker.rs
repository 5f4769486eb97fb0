//! Debian's `docker-registry`, with a store of the test's own.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::{PASSWORD, USER, answers, inside, listen};
use crate::debian;
use crate::{Node, Run, deadline};

/// [`super::PASSWORD`] by bcrypt, the one form that the registry reads.
const HTPASSWD: &str = "puller:$2y$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a\n";

/// A registry that runs until it is dropped.
pub struct DockerRegistry {
    /// `127.0.0.1:PORT`
    pub host: String,
    authenticates: bool,
    program: PathBuf,
    config: PathBuf,
    run: Option<Run>,
}

impl DockerRegistry {
    /// One that lets everybody in.
    pub fn open(node: &Node) -> Result<Self, String> {
        Self::new(node, false)
    }

    /// One that wants [`USER`] and [`PASSWORD`].
    pub fn with_auth(node: &Node) -> Result<Self, String> {
        Self::new(node, true)
    }

    fn new(node: &Node, authenticates: bool) -> Result<Self, String> {
        crate::skip::root()?;
        // Unpacked, not installed: installing starts a service on machines that have a service manager.
        let program = match debian::which("docker-registry") {
            Some(program) => program,
            None => debian::unpacked(&["docker-registry"])?.join("usr/bin/docker-registry"),
        };
        debian::program("skopeo", "skopeo")?;
        let address = listen(node, "127.0.0.1").local_addr().expect("it is bound");
        let dir = node.make_dir(&format!("registry-{}", address.port()));
        let config = dir.join("config.yml");
        let mut text = format!(
            "version: 0.1\nlog: {{level: warn, accesslog: {{disabled: true}}}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\n\
             http: {{addr: '{address}'}}\n",
            dir.join("data").display()
        );
        if authenticates {
            let file = dir.join("htpasswd");
            std::fs::write(&file, HTPASSWD).expect("the directory is ours");
            text.push_str(&format!("auth: {{htpasswd: {{realm: e2e, path: {}}}}}\n", file.display()));
        }
        std::fs::write(&config, text).expect("the directory is ours");
        let mut registry = Self { host: address.to_string(), authenticates, program, config, run: None };
        registry.start(node);
        Ok(registry)
    }

    /// Starts it, or starts it again, at the same address, and waits until it answers.
    pub fn start(&mut self, node: &Node) {
        let mut run = Run::start(inside(node, &self.program).arg("serve").arg(&self.config), None);
        let deadline = Instant::now() + deadline();
        while !answers(node, &self.host) {
            assert!(
                run.is_running() && Instant::now() < deadline,
                "docker-registry does not come up: {:?}",
                run.lines()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        self.run = Some(run);
    }

    /// Ends it; its store stays.
    pub fn stop(&mut self) {
        self.run = None;
    }

    /// Pushes an `oci-archive` as `HOST/NAME` and returns that reference.
    pub fn push(&self, node: &Node, archive: &Path, name: &str) -> Result<String, String> {
        let reference = format!("{}/{name}", self.host);
        let skopeo = debian::program("skopeo", "skopeo")?;
        let mut command = inside(node, &skopeo);
        command.args(["--insecure-policy", "copy", "--preserve-digests", "--dest-tls-verify=false"]);
        if self.authenticates {
            command.arg(format!("--dest-creds={USER}:{PASSWORD}"));
        }
        command.arg(format!("oci-archive:{}", archive.display())).arg(format!("docker://{reference}"));
        let pushed = Run::start(&mut command, None).wait_within(Duration::from_secs(300));
        if pushed.status.success() { Ok(reference) } else { Err(format!("skopeo cannot push:\n{pushed}")) }
    }
}
