//! One run of QEMU, and the conversation with the agent inside.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::Image;
use crate::debian;
use crate::finished::{Finished, Line};

/// Emulated, a boot takes some seconds; on a busy machine many.
const BOOT: Duration = Duration::from_secs(120);

/// How the machine is booted.
#[derive(Clone, Copy, Debug, Default)]
pub struct Boot<'a> {
    /// Version 1 hierarchies alone instead of version 2 alone.
    pub cgroup_v1: bool,
    /// Stay on the initramfs instead of changing to the disk: a root that pivot_root(2) cannot leave.
    pub initramfs_root: bool,
    /// A disk of the test's own, which keeps what is written; else the common one, which forgets.
    pub disk: Option<&'a Path>,
}

/// A running machine. Dropping it ends QEMU, as a power cut would.
pub struct Machine {
    qemu: Child,
    agent: BufReader<UnixStream>,
    console: PathBuf,
    sent: u32,
    // The console's file and the socket are here.
    _dir: TempDir,
}

impl Machine {
    /// Boots and waits until the agent answers.
    pub fn boot(image: &Image, boot: &Boot<'_>) -> Result<Self, String> {
        let program = debian::program("qemu-system-x86_64", "qemu-system-x86")?;
        let dir = tempfile::tempdir().map_err(|error| error.to_string())?;
        let socket = dir.path().join("agent");
        let console = dir.path().join("console");
        let listener = UnixListener::bind(&socket).map_err(|error| format!("cannot listen: {error}"))?;
        let qemu = start(&program, image, boot, &socket, &console)?;
        // From here on dropping ends it.
        let mut starting = Starting(Some(qemu));
        let stream = accept(&listener, &mut starting, &console)?;
        let qemu = starting.0.take().ok_or("QEMU is gone")?;
        let mut machine = Self { qemu, agent: BufReader::new(stream), console, sent: 0, _dir: dir };
        let mut lines = Vec::new();
        machine.read_until(|line| line == "@@ ready", Instant::now() + BOOT, &mut lines)?;
        Ok(machine)
    }

    /// Runs a shell script to its end; what it printed is also printed here, for who looks on.
    pub fn sh(&mut self, script: &str, limit: Duration) -> Result<Finished, String> {
        let started = Instant::now();
        let number = self.start(script)?;
        let prefix = format!("@@ exit {number} ");
        let mut lines = Vec::new();
        let last = self.read_until(|line| line.starts_with(&prefix), started + limit, &mut lines)?;
        let code = last[prefix.len()..].parse::<i32>().map_err(|error| format!("{last:?}: {error}"))?;
        let status = ExitStatus::from_raw(code << 8);
        Ok(Finished { command: script.to_owned(), status, lines, elapsed: started.elapsed() })
    }

    /// Sends a script and does not wait for it. The next one waits for its end.
    pub fn start(&mut self, script: &str) -> Result<u32, String> {
        self.sent += 1;
        let line = format!("{} {}\n", self.sent, base64(script.as_bytes()));
        let sent = self.agent.get_mut().write_all(line.as_bytes());
        sent.map_err(|error| self.explain(&format!("the machine takes no command: {error}")))?;
        Ok(self.sent)
    }

    /// Ends the machine as a power cut does: nothing is written any more, nobody is asked.
    pub fn cut_power(self) {}

    /// How much processor time the emulation has taken: what it costs, whatever else the host is doing.
    pub fn cost(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.qemu.id())).unwrap_or_default();
        let after_name = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
        // proc(5): utime and stime are the fields 14 and 15, in ticks of which the kernel shows a hundred a second.
        let ticks: u64 = after_name.skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
        Duration::from_millis(ticks * 10)
    }

    /// What the kernel and init printed.
    pub fn console(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.console).unwrap_or_default()).into_owned()
    }

    fn read_until(
        &mut self,
        done: impl Fn(&str) -> bool,
        deadline: Instant,
        lines: &mut Vec<Line>,
    ) -> Result<String, String> {
        let mut bytes = Vec::new();
        loop {
            // A short time-out of each read: the deadline is about all of them together.
            match self.agent.read_until(b'\n', &mut bytes) {
                Ok(0) => return Err(self.explain("the machine has stopped")),
                Ok(_) if bytes.ends_with(b"\n") => {
                    let text = String::from_utf8_lossy(&bytes).trim_end_matches(['\n', '\r']).to_owned();
                    bytes.clear();
                    if done(&text) {
                        // The newline before the mark ends a last line without one; after others it is an empty line.
                        lines.pop_if(|line| line.text.is_empty());
                        return Ok(text);
                    }
                    println!("vm| {text}");
                    lines.push(Line { error: false, text });
                }
                Ok(_) => {}
                Err(error) if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {
                }
                Err(error) => return Err(self.explain(&format!("the machine cannot be heard: {error}"))),
            }
            if Instant::now() > deadline {
                let said: Vec<&str> = lines.iter().rev().take(40).rev().map(|line| line.text.as_str()).collect();
                return Err(self.explain(&format!("not done in time; it said last:\n{}", said.join("\n"))));
            }
        }
    }

    fn explain(&self, what: &str) -> String {
        format!("{what}\nthe console's end:\n{}", tail(&self.console()))
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        end(&mut self.qemu);
    }
}

/// QEMU until the agent has called; dropping it ends it.
struct Starting(Option<Child>);

impl Drop for Starting {
    fn drop(&mut self) {
        if let Some(qemu) = &mut self.0 {
            end(qemu);
        }
    }
}

fn end(qemu: &mut Child) {
    // It may have ended already.
    let _ = qemu.kill();
    let _ = qemu.wait();
}

fn start(program: &Path, image: &Image, boot: &Boot<'_>, socket: &Path, console: &Path) -> Result<Child, String> {
    let (disk, snapshot) = boot.disk.map_or((image.disk.as_path(), "on"), |disk| (disk, "off"));
    // Emulation alone: nested virtualisation is missing or broken on many machines that run tests.
    let mut kernel = "console=ttyS0 quiet panic=-1 apparmor=1 security=apparmor net.ifnames=0".to_owned();
    if boot.cgroup_v1 {
        kernel.push_str(" coracle.cgroups=v1");
    }
    if boot.initramfs_root {
        kernel.push_str(" coracle.root=initramfs");
    }
    // A setting at the end has to be found as a whole word, too.
    kernel.push(' ');
    // Dies with the thread that started it, however the test ends.
    let mut command = Command::new(debian::program("setpriv", "util-linux")?);
    command.args(["--pdeathsig", "KILL"]).arg(program);
    command.args(["-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", "2048", "-nodefaults", "-no-reboot"]);
    command.args(["-display", "none", "-no-user-config", "-append", &kernel]);
    command.arg("-kernel").arg(&image.kernel).arg("-initrd").arg(&image.initramfs);
    let drive = format!("file={},format=raw,if=virtio,cache=unsafe,snapshot={snapshot}", disk.display());
    command.args(["-drive", &drive, "-device", "virtio-serial"]);
    command.arg("-chardev").arg(format!("socket,id=agent,path={}", socket.display()));
    command.args(["-device", "virtserialport,chardev=agent,name=coracle"]);
    command.arg("-serial").arg(format!("file:{}", console.display()));
    let log = console.with_extension("qemu");
    let log = File::create(&log).map_err(|error| format!("cannot create {}: {error}", log.display()))?;
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    command.spawn().map_err(|error| format!("cannot start QEMU: {error}"))
}

/// The connection that QEMU makes when it starts.
fn accept(listener: &UnixListener, qemu: &mut Starting, console: &Path) -> Result<UnixStream, String> {
    let deadline = Instant::now() + BOOT;
    listener.set_nonblocking(true).map_err(|error| error.to_string())?;
    loop {
        match listener.accept() {
            Ok((stream, _)) => {
                stream.set_nonblocking(false).map_err(|error| error.to_string())?;
                stream.set_read_timeout(Some(Duration::from_millis(200))).map_err(|error| error.to_string())?;
                return Ok(stream);
            }
            Err(_) if Instant::now() < deadline && qemu.lives() => std::thread::sleep(Duration::from_millis(10)),
            Err(error) => {
                let said = std::fs::read_to_string(console.with_extension("qemu")).unwrap_or_default();
                return Err(format!("QEMU did not start: {error}: {}", said.trim()));
            }
        }
    }
}

impl Starting {
    fn lives(&mut self) -> bool {
        self.0.as_mut().is_some_and(|qemu| matches!(qemu.try_wait(), Ok(None)))
    }
}

fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(60)..].join("\n")
}

/// As `base64 -d` reads it.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let group = chunk.iter().fold(0u32, |group, byte| group << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for digit in 0..4 {
            let value = (group >> (18 - 6 * digit)) & 63;
            text.push(if digit <= chunk.len() { DIGITS[value as usize] as char } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::base64;

    #[test]
    fn base64_is_as_everybody_writes_it() {
        for (plain, encoded) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")] {
            assert_eq!(base64(plain.as_bytes()), encoded);
        }
    }
}
