//! AppArmor profiles by name.

use e2e::manifest::{keeper, script_with};
use e2e::{Node, loopfs, need};
use rustix::process::Signal;
use serde_json::json;

/// Whether this kernel runs with AppArmor.
fn enabled() -> bool {
    std::fs::read_to_string("/sys/module/apparmor/parameters/enabled").is_ok_and(|text| text.trim() == "Y")
}

/// A loaded profile that allows everything but reading one file.
struct Profile {
    file: tempfile::NamedTempFile,
    name: String,
}

impl Profile {
    fn load(name: &str) -> Result<Self, String> {
        if !enabled() {
            return Err("the kernel has no AppArmor".into());
        }
        let file = tempfile::NamedTempFile::new().map_err(|error| error.to_string())?;
        let name = format!("coracle-{name}-{}", std::process::id());
        let text = format!(
            "profile {name} flags=(attach_disconnected,mediate_deleted) {{\n  file,\n  capability,\n  network,\n  \
             signal,\n  ptrace,\n  mount,\n  umount,\n  unix,\n  deny /etc/group r,\n}}\n"
        );
        std::fs::write(file.path(), text).map_err(|error| error.to_string())?;
        let profile = Self { file, name };
        profile.parser("--replace")?;
        Ok(profile)
    }

    fn parser(&self, how: &str) -> Result<(), String> {
        loopfs::tool("apparmor_parser", &["--skip-cache", how, &self.file.path().to_string_lossy()])
    }
}

impl Drop for Profile {
    fn drop(&mut self) {
        if let Err(error) = self.parser("--remove") {
            eprintln!("{error}");
        }
    }
}

const LOOK: &str = "cat /proc/self/attr/current; cat /etc/group >/dev/null || echo group refused; \
                    cat /etc/passwd >/dev/null && echo passwd read";

#[test]
fn a_loaded_profile_confines_the_container() {
    let node = need!(Node::with_busybox());
    let profile = need!(Profile::load("confines"));
    for escalation in [true, false] {
        let context = json!({
            "appArmorProfile": {"type": "Localhost", "localhostProfile": profile.name},
            "allowPrivilegeEscalation": escalation,
        });
        let finished = node.run_to_end(script_with(LOOK, json!({"securityContext": context}))).exits(0);
        finished.says(&format!("{} (enforce)", profile.name)).says("group refused").says("passwd read");
    }
}

#[test]
fn a_command_in_a_confined_container_is_confined_and_the_container_stops() {
    let node = need!(Node::with_busybox());
    let profile = need!(Profile::load("exec"));
    let mut pod = keeper("kept");
    pod["spec"]["securityContext"] =
        json!({"appArmorProfile": {"type": "Localhost", "localhostProfile": profile.name}});
    let mut run = node.run(pod);
    run.wait_for("| up");
    let said = node.exec("kept", "c", &["sh", "-c", LOOK]).exits(0);
    said.says(&format!("{} (enforce)", profile.name)).says("group refused").says("passwd read");
    run.signal(Signal::TERM);
    run.wait();
    node.assert_nothing_left();
}

#[test]
fn unconfined_and_the_runtimes_default_confine_nothing() {
    let node = need!(Node::with_busybox());
    if !enabled() {
        e2e::skip!("the kernel has no AppArmor");
    }
    for ty in ["Unconfined", "RuntimeDefault"] {
        let context = json!({"securityContext": {"appArmorProfile": {"type": ty}}});
        let finished = node.run_to_end(script_with(LOOK, context)).exits(0);
        finished.says("unconfined").never_says("refused");
    }
}

#[test]
fn a_profile_that_is_not_loaded_is_a_clear_error_and_leaves_nothing() {
    let node = need!(Node::with_busybox());
    let why = if enabled() { "is not loaded on this host" } else { "kernel has no AppArmor" };
    let context =
        json!({"securityContext": {"appArmorProfile": {"type": "Localhost", "localhostProfile": "coracle-not-there"}}});
    let finished = node.run_to_end(script_with("echo ran", context));
    assert_eq!(finished.status.code(), Some(125), "{finished}");
    finished.says("coracle-not-there").says(why).never_says("| ran");
    node.assert_nothing_left();
}

#[test]
fn a_file_in_the_place_of_procfs_cannot_swallow_the_profile() {
    let node = need!(Node::with_busybox());
    let profile = need!(Profile::load("swallowed"));
    let fake = node.make_dir("proc/thread-self/attr/apparmor");
    std::fs::write(fake.join("exec"), "").expect("a file");
    let mut pod = script_with(
        "echo ran",
        json!({
            "securityContext": {"appArmorProfile": {"type": "Localhost", "localhostProfile": profile.name}},
            "volumeMounts": [{"name": "v", "mountPath": "/proc"}],
        }),
    );
    let source = node.dir().join("proc");
    pod["spec"]["volumes"] = json!([{"name": "v", "hostPath": {"path": source.to_string_lossy()}}]);
    let finished = node.run_to_end(pod).never_says("| ran");
    assert!(!finished.status.success(), "{finished}");
    assert_eq!(std::fs::read_to_string(fake.join("exec")).expect("a file"), "", "the profile went into a file");
}
