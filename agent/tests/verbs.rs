//! Verbs as a user types them, as far as they need no runtime.
#![allow(clippy::unwrap_used)]

use std::process::{Command, Output, Stdio};

fn coracle(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_coracle")).args(args).env("NO_COLOR", "1").output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn the_version_is_the_packages() {
    let version = env!("CARGO_PKG_VERSION");
    assert!(stdout(&coracle(&["version"])).starts_with(&format!("coracle {version}\n")));
    assert_eq!(stdout(&coracle(&["--version"])), format!("coracle {version}\n"));
    let json: serde_json::Value = serde_json::from_str(&stdout(&coracle(&["version", "-o", "json"]))).unwrap();
    assert_eq!(json["version"], version);
}

#[test]
fn bad_usage_exits_2() {
    for line in [&["nonsense"][..], &["exec", "web"], &["version", "--nonsense"], &[]] {
        let got = coracle(line);
        assert_eq!((got.status.code(), got.stdout.len()), (Some(2), 0), "{line:?}");
    }
}

#[test]
fn every_shell_has_a_completion_script() {
    for shell in ["bash", "zsh", "fish"] {
        let got = coracle(&["completion", shell]);
        assert!(got.status.success() && stdout(&got).contains("coracle"), "{shell}");
    }
}

#[test]
fn a_closed_pipe_is_silent() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = Command::new(env!("CARGO_BIN_EXE_coracle"));
    let got = command.args(["completion", "bash"]).stdout(writer).stderr(Stdio::piped()).output().unwrap();
    assert_eq!((got.status.code(), stderr(&got).as_str()), (Some(0), ""));
}

#[test]
fn an_unreadable_manifest_is_bad_input() {
    let got = coracle(&["validate", "/nowhere.yaml"]);
    assert_eq!(got.status.code(), Some(2));
    assert_eq!(
        stderr(&got),
        "error: read manifest /nowhere.yaml\n  caused by: No such file or directory (os error 2)\n"
    );
}

#[test]
fn an_unknown_pod_is_named_with_what_there_is() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().to_str().unwrap();
    let got = coracle(&["--state-dir", state, "exec", "web", "--", "true"]);
    assert_eq!(got.status.code(), Some(125));
    if rustix::process::geteuid().is_root() {
        assert_eq!(stderr(&got), format!("error: no pod web is known in {state}; there is none\n"));
    }
}

/// Root tries it as nobody, so the check runs wherever the tests do.
#[test]
fn without_root_the_line_to_type_is_shown() {
    let dir = tempfile::tempdir().unwrap();
    let binary = dir.path().join("coracle");
    std::fs::copy(env!("CARGO_BIN_EXE_coracle"), &binary).unwrap();
    let mut command = if rustix::process::geteuid().is_root() {
        std::fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(&binary);
        command
    } else {
        Command::new(&binary)
    };
    let got = command.args(["image", "rm", "a b"]).output().unwrap();
    assert_eq!(got.status.code(), Some(125));
    let line = format!("needs root; type: sudo {} image rm 'a b'\n", binary.display());
    assert!(stderr(&got).ends_with(&line), "{}", stderr(&got));
}
