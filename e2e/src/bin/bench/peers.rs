//! The peers' figures, from the same root directory and the same archive. What is missing or fails is said, not skipped.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use e2e::{debian, fixtures};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::coracle::since;

type Samples = Result<Vec<f64>, String>;

/// A bundle of the busybox root, with the configuration that runc itself writes.
struct Bundle {
    dir: TempDir,
    program: PathBuf,
    id: String,
}

impl Bundle {
    fn new(runtime: &str, command: &[&str]) -> Result<Self, String> {
        let program = debian::which(runtime).ok_or("not installed")?;
        let dir = tempfile::tempdir().map_err(|error| error.to_string())?;
        let bundle = Self { dir, program, id: format!("coracle-bench-{runtime}-{}", std::process::id()) };
        let path = bundle.dir.path();
        fixtures::busybox_root(&path.join("rootfs"))?;
        finish(Command::new(&bundle.program).arg("spec").current_dir(path))?;
        let config = path.join("config.json");
        let text = std::fs::read(&config).map_err(|error| error.to_string())?;
        let mut spec: Value = serde_json::from_slice(&text).map_err(|error| error.to_string())?;
        spec["process"]["terminal"] = json!(false);
        spec["process"]["args"] = json!(command);
        spec["root"]["readonly"] = json!(false);
        spec["linux"]["cgroupsPath"] = json!(format!("/{}", bundle.id));
        std::fs::write(&config, spec.to_string()).map_err(|error| error.to_string())?;
        Ok(bundle)
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("--root").arg(self.dir.path().join("state")).args(args).current_dir(self.dir.path());
        command
    }
}

/// `RUNTIME run` of `true`, from fork to exit.
pub fn run(runtime: &str, runs: usize) -> Samples {
    let bundle = Bundle::new(runtime, &["true"])?;
    timed(runs, || finish(&mut bundle.command(&["run", &bundle.id])))
}

/// `RUNTIME exec` of `true`, from fork to exit.
pub fn exec(runtime: &str, runs: usize) -> Samples {
    let bundle = Bundle::new(runtime, &["sleep", "1000"])?;
    // Without pipes: the container would hold them open for as long as it lives.
    let started = bundle.command(&["run", "--detach", &bundle.id]).stdin(std::process::Stdio::null()).status();
    let started = started.map_err(|error| error.to_string())?;
    let samples = match started.success() {
        true => timed(runs, || finish(&mut bundle.command(&["exec", &bundle.id, "true"]))),
        false => Err(format!("{runtime} run --detach: {started}")),
    };
    let removed = finish(&mut bundle.command(&["delete", "--force", &bundle.id]));
    samples.and_then(|samples| removed.map(|()| samples))
}

/// `umoci unpack` of the archive's image, copied to a layout first.
pub fn umoci_unpack(archive: &Path, runs: usize) -> Samples {
    let umoci = debian::which("umoci").ok_or("not installed")?;
    let skopeo = debian::which("skopeo").ok_or("needs skopeo, which is not installed")?;
    let dir = tempfile::tempdir().map_err(|error| error.to_string())?;
    let layout = dir.path().join("layout");
    let (from, to) = (format!("oci-archive:{}", archive.display()), format!("oci:{}:big", layout.display()));
    finish(Command::new(skopeo).args(["--insecure-policy", "copy", &from, &to]))?;
    let mut samples = Vec::new();
    for number in 0..runs {
        let bundle = dir.path().join(number.to_string());
        let image = format!("{}:big", layout.display());
        let start = Instant::now();
        finish(Command::new(&umoci).args(["unpack", "--image", &image]).arg(&bundle))?;
        samples.push(since(start));
        std::fs::remove_dir_all(&bundle).map_err(|error| error.to_string())?;
    }
    Ok(samples)
}

/// Times `action`; one run first warms the caches.
fn timed(runs: usize, mut action: impl FnMut() -> Result<(), String>) -> Samples {
    action()?;
    let mut samples = Vec::new();
    for _ in 0..runs {
        let start = Instant::now();
        action()?;
        samples.push(since(start));
    }
    Ok(samples)
}

fn finish(command: &mut Command) -> Result<(), String> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    if output.status.success() { Ok(()) } else { Err(said.trim().lines().last().unwrap_or("failed").to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runc_runs_and_execs_in_our_bundle() {
        e2e::need!(e2e::skip::root());
        e2e::need!(debian::which("runc").ok_or("no runc".to_owned()));
        for samples in [run("runc", 2), exec("runc", 2)] {
            let samples = samples.expect("runc works on this machine");
            assert!(samples.len() == 2 && samples.iter().all(|sample| *sample > 1.0), "{samples:?}");
        }
    }

    #[test]
    fn umoci_unpacks_our_archive() {
        e2e::need!(e2e::skip::root());
        e2e::need!(debian::which("umoci").and(debian::which("skopeo")).ok_or("no umoci or no skopeo".to_owned()));
        let archive = e2e::need!(fixtures::big(2, 100));
        assert_eq!(umoci_unpack(&archive, 1).expect("umoci works on this machine").len(), 1);
    }

    #[test]
    fn a_runtime_that_is_not_there_is_a_reason() {
        assert_eq!(run("no-such-runtime", 1), Err("not installed".into()));
    }
}
