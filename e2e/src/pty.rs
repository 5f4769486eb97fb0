//! A terminal of the test's own, as `script` makes one.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, ExitStatus};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use crate::netns::Host;
use crate::{Node, deadline, inspect};

/// A verb that runs on a terminal.
pub struct Session {
    child: Child,
    master: File,
    seen: Arc<Mutex<String>>,
}

impl Session {
    /// Starts a verb of `node` with a terminal of 100 columns and 40 rows as its controlling terminal.
    pub fn start(node: &Node, args: &[&str]) -> Self {
        Self::of(node.host(), node.command(args).inner())
    }

    /// Starts any command like that.
    pub fn of(host: &Host, inner: &Command) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).expect("a pty");
        grantpt(&master).and_then(|()| unlockpt(&master)).expect("the pty can be unlocked");
        tcsetwinsize(&master, Winsize { ws_row: 40, ws_col: 100, ws_xpixel: 0, ws_ypixel: 0 }).expect("a size");
        let name = ptsname(&master, Vec::new()).expect("the pty has a name").into_string().expect("an ASCII name");
        let open =
            || -> OwnedFd { File::options().read(true).write(true).open(&name).expect("the terminal opens").into() };
        // setsid makes the terminal the controlling one, which a child of ours cannot do without unsafe code.
        let mut command = Command::new("setsid");
        // A test run that was started in the background ignores interrupts, and so would everything below it.
        command.args(["--ctty", "--wait", "--", "env", "--default-signal=INT,QUIT,HUP,TERM"]);
        command.arg(inner.get_program()).args(inner.get_args());
        for (name, value) in inner.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        // Colours are for terminals that say what they are, where nobody has said that none are wanted.
        command.env("TERM", "xterm").env_remove("NO_COLOR").stdin(open()).stdout(open()).stderr(open());
        let child = host.within(|| command.spawn()).expect("setsid starts");
        drop(command);
        let master = File::from(master);
        let seen = Arc::new(Mutex::new(String::new()));
        let (mut reader, sink) = (master.try_clone().expect("a descriptor"), Arc::clone(&seen));
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            // EIO is how a terminal says that its last user is gone.
            while let Ok(count @ 1..) = reader.read(&mut buffer) {
                let text = String::from_utf8_lossy(&buffer[..count]).into_owned();
                sink.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).push_str(&text);
            }
        });
        Self { child, master, seen }
    }

    /// Types.
    pub fn type_in(&mut self, keys: &str) {
        self.master.write_all(keys.as_bytes()).expect("the terminal takes input");
    }

    /// Changes the size of the terminal.
    pub fn resize(&self, columns: u16, rows: u16) {
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&self.master, size).expect("a size");
    }

    /// What the screen has shown so far.
    pub fn seen(&self) -> String {
        self.seen.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clone()
    }

    /// Waits until the screen has shown `text`.
    #[track_caller]
    pub fn wait_for(&self, text: &str) {
        let deadline = Instant::now() + deadline();
        while !self.seen().contains(text) {
            assert!(Instant::now() < deadline, "the terminal never shows {text:?}:\n{}", self.seen());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Types an interrupt until the screen has shown `text`: one that comes just before a shell waits for its child is
    /// heard when the child ends.
    #[track_caller]
    pub fn interrupt_until(&mut self, text: &str) {
        let interrupted = || {
            self.type_in("\x03");
            let end = Instant::now() + Duration::from_secs(1);
            while Instant::now() < end && !self.seen().contains(text) {
                std::thread::sleep(Duration::from_millis(5));
            }
            self.seen().contains(text)
        };
        inspect::wait_until(text, interrupted);
    }

    /// Kills the verb with everything on its terminal, without a chance to say goodbye.
    pub fn kill(&mut self) {
        // `setsid` waits for the verb as its parent's stand-in: the verb leads the session, so it is the one to kill.
        let Ok(leader) = rustix::termios::tcgetsid(&self.master) else { return };
        rustix::process::kill_process(leader, rustix::process::Signal::KILL).expect("the leader is ours");
    }

    /// Tells the verb that its terminal is gone, and waits for its end.
    #[track_caller]
    pub fn hang_up(self) -> (ExitStatus, String) {
        // The reader holds the terminal open beside us, so the kernel's own hang-up would not come.
        let group = rustix::termios::tcgetpgrp(&self.master).expect("the terminal has a foreground group");
        rustix::process::kill_process_group(group, rustix::process::Signal::HUP).expect("the group is ours");
        self.wait()
    }

    /// Waits for the end of the verb.
    #[track_caller]
    pub fn wait(mut self) -> (ExitStatus, String) {
        let deadline = Instant::now() + deadline();
        loop {
            if let Some(status) = self.child.try_wait().expect("the child is ours") {
                return (status, self.seen());
            }
            assert!(Instant::now() < deadline, "still running:\n{}", self.seen());
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_has_the_terminal_its_size_and_its_interrupt() {
        let mut session = Session::of(
            &Host::machine(),
            Command::new("sh").arg("-c").arg("trap 'echo in''t; exit 4' INT; tty; stty size; read x"),
        );
        session.wait_for("/dev/pts/");
        session.wait_for("40 100");
        session.type_in("\x03");
        session.wait_for("int");
        assert_eq!(session.wait().0.code(), Some(4));
    }

    #[test]
    fn a_killed_command_is_dead() {
        let mut session = Session::of(&Host::machine(), Command::new("sh").arg("-c").arg("echo up; sleep 60"));
        session.wait_for("up");
        session.kill();
        assert!(!session.wait().0.success());
    }
}
