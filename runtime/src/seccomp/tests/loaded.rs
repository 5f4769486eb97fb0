//! Programs that the kernel runs.
#![allow(unsafe_code)]

use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, Output};

use super::*;

fn under(profile: &Profile, script: &str) -> Output {
    let program = compile(profile).unwrap();
    let mut command = Command::new("sh");
    command.arg("-c").arg(script);
    // SAFETY: between fork and exec this makes two system calls and allocates nothing; the program was compiled before.
    unsafe {
        command.pre_exec(move || {
            rustix::thread::set_no_new_privs(true)?;
            crate::sys::seccomp::load(&program)
        });
    }
    command.output().unwrap()
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn a_program_under_the_default_profile_works_and_makes_no_namespace() {
    let profile = Profile::runtime_default(CapSet::DEFAULT).unwrap();
    let output = under(
        &profile,
        "grep Seccomp: /proc/self/status; (sleep 0 & wait; echo forked) | cat; ls / > /dev/null && echo listed; \
         unshare -n true && echo escaped; mount -t tmpfs none /mnt && echo mounted; true",
    );
    let seen = text(&output);
    assert!(output.status.success(), "{output:?}");
    assert!(seen.contains("Seccomp:\t2") && seen.contains("forked") && seen.contains("listed"), "{seen}");
    assert!(!seen.contains("escaped") && !seen.contains("mounted"), "{seen}");
    assert!(seen.contains("unshare failed: Operation not permitted"), "{seen}");
}

#[test]
fn a_local_profile_chooses_the_errno_and_may_kill() {
    let json = r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
        {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28},
        {"names": ["rmdir", "unlinkat"], "action": "SCMP_ACT_KILL_PROCESS"}]}"#;
    let profile = Profile::parse(json, CapSet::DEFAULT).unwrap();
    let output = under(&profile, "mkdir /tmp/never; exec rmdir /tmp/never");
    assert!(text(&output).contains("No space left on device"), "{output:?}");
    assert_eq!(output.status.signal(), Some(libc::SIGSYS));
}
