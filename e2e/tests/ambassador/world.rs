//! A machine with an ambassador on it, targets, and clients.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use e2e::netns::Host;
use e2e::{Run, binary, deadline};
use serde_json::Value;
use tempfile::TempDir;

/// Where the ambassador says how it is.
pub const STATUS: u16 = 15021;

/// The first port that it listens on.
pub const PORT: u16 = 6379;

pub const V4: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
pub const V6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

/// A machine of the test's own, and an ambassador.
pub struct World {
    pub host: Host,
    dir: TempDir,
    run: Option<Run>,
}

impl World {
    /// A machine without an ambassador yet.
    pub fn new() -> Self {
        let host = Host::new().expect("a network namespace");
        Self { host, dir: tempfile::tempdir().expect("a temporary directory"), run: None }
    }

    /// One that has a configuration, and listens.
    pub fn with(config: Value) -> Self {
        let mut world = Self::new();
        world.configure(&config);
        world.start();
        world
    }

    /// Starts an ambassador that is configured by the file.
    pub fn start(&mut self) {
        let mut command = Command::new(binary::coracle());
        command.args(["tool", "ambassador", "--config"]).arg(self.config());
        self.start_as(command);
    }

    /// Starts an ambassador by this command, and waits until it listens.
    pub fn start_as(&mut self, command: Command) {
        self.run.insert(self.host.spawn(command)).wait_for(" leads to ");
    }

    fn config(&self) -> PathBuf {
        self.dir.path().join("config.json")
    }

    /// Writes the configuration, all at once.
    pub fn configure(&self, config: &Value) {
        self.write("config.json", &config.to_string());
    }

    /// Writes a file of the test's own, all at once.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let (path, new) = (self.dir.path().join(name), self.dir.path().join(format!(".{name}")));
        std::fs::write(&new, text).expect("the directory is writable");
        std::fs::rename(&new, &path).expect("the directory is writable");
        path
    }

    /// Writes a configuration and waits until it counts.
    #[track_caller]
    pub fn reconfigure(&mut self, config: &Value) {
        let before = self.metric("config_reloads_total{outcome=\"good\"}");
        self.configure(config);
        self.eventually("the configuration counts", |world| {
            world.metric("config_reloads_total{outcome=\"good\"}") > before
        });
    }

    /// The process.
    pub fn run(&mut self) -> &mut Run {
        self.run.as_mut().expect("it runs")
    }

    /// The process, to wait for.
    pub fn take_run(&mut self) -> Run {
        self.run.take().expect("it runs")
    }

    /// A connection to a port of the ambassador.
    #[track_caller]
    pub fn connect(&self, port: u16) -> TcpStream {
        self.connect_to((V4, port).into()).expect("the ambassador accepts")
    }

    /// A connection to an address from this machine. Reading from it ends some time.
    pub fn connect_to(&self, address: SocketAddr) -> io::Result<TcpStream> {
        let stream = self.host.within(|| TcpStream::connect_timeout(&address, deadline()))?;
        stream.set_read_timeout(Some(deadline()))?;
        stream.set_write_timeout(Some(deadline()))?;
        Ok(stream)
    }

    /// What a server that says its name says through the ambassador.
    pub fn who(&self, port: u16) -> io::Result<String> {
        let mut said = String::new();
        self.connect_to((V4, port).into())?.read_to_string(&mut said)?;
        Ok(said.split(' ').next().unwrap_or_default().to_owned())
    }

    /// Waits until something holds.
    #[track_caller]
    pub fn eventually(&mut self, what: &str, holds: impl Fn(&Self) -> bool) {
        let end = Instant::now() + deadline();
        while !holds(self) {
            assert!(Instant::now() < end, "never: {what}\n{}\n{:?}", self.metrics(), self.said());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until the targets with these addresses are there, or not.
    #[track_caller]
    pub fn wait_until_up(&mut self, address: SocketAddr, up: bool) {
        let wanted = format!("address=\"{address}\"}} {}", u8::from(up));
        let line = move |world: &Self| {
            let metrics = world.metrics();
            metrics.lines().any(|line| line.starts_with("coracle_ambassador_target_up{") && line.ends_with(&wanted))
        };
        self.eventually(&format!("{address} is up: {up}"), line);
    }

    /// What was printed so far.
    pub fn said(&self) -> Vec<String> {
        self.run.iter().flat_map(Run::lines).map(|line| line.text).collect()
    }

    /// Every number.
    pub fn metrics(&self) -> String {
        http(&self.host, (V4, STATUS).into(), "/metrics").map_or_else(|error| error.to_string(), |(_, body)| body)
    }

    /// One number.
    #[track_caller]
    pub fn metric(&self, name: &str) -> u64 {
        let metrics = self.metrics();
        let found = metrics.lines().find_map(|line| line.strip_prefix("coracle_ambassador_")?.strip_prefix(name));
        let number = found.and_then(|rest| rest.trim().parse().ok());
        number.unwrap_or_else(|| panic!("there is no {name}:\n{metrics}"))
    }

    /// Whether it says that it is ready.
    pub fn is_ready(&self) -> bool {
        http(&self.host, (V4, STATUS).into(), "/ready").is_ok_and(|(code, _)| code == 200)
    }
}

/// The code and the body of what a server answers to `GET PATH`.
pub fn http(host: &Host, address: SocketAddr, path: &str) -> io::Result<(u16, String)> {
    host.within(|| {
        let mut stream = TcpStream::connect_timeout(&address, deadline())?;
        stream.set_read_timeout(Some(deadline()))?;
        stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n").as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
        let code = head.split(' ').nth(1).and_then(|code| code.parse().ok());
        Ok((code.ok_or_else(|| io::Error::other(format!("not HTTP: {head}")))?, body.to_owned()))
    })
}

/// Sends back everything that it is sent, and the end of it. Dropping it ends its connections as a crash does.
pub struct Echo {
    stop: Arc<AtomicBool>,
    open: Arc<Mutex<Vec<TcpStream>>>,
    thread: Option<JoinHandle<()>>,
}

impl Echo {
    /// One at an address of a machine.
    pub fn start(host: &Host, address: SocketAddr) -> Self {
        let listener = host.within(|| listen(address));
        let (stop, open) = (Arc::<AtomicBool>::default(), Arc::<Mutex<Vec<TcpStream>>>::default());
        let (stopped, held) = (stop.clone(), open.clone());
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                let Ok((stream, _)) = listener.accept() else {
                    std::thread::sleep(Duration::from_millis(2));
                    continue;
                };
                stream.set_nonblocking(false).expect("a socket");
                held.lock().expect("nobody panics").push(stream.try_clone().expect("a descriptor"));
                std::thread::spawn(move || echo(stream));
            }
        });
        Self { stop, open, thread: Some(thread) }
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // Its panic is shown already.
            let _ = thread.join();
        }
        for stream in self.open.lock().iter_mut().flat_map(|open| open.drain(..)) {
            let _ = rustix::net::sockopt::set_socket_linger(stream.as_fd(), Some(Duration::ZERO));
            // It may have ended.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

/// A listener that waits for nobody; a port that was just given up is free again.
pub fn listen(address: SocketAddr) -> TcpListener {
    let end = Instant::now() + deadline();
    loop {
        match TcpListener::bind(address) {
            Ok(listener) => {
                listener.set_nonblocking(true).expect("a socket");
                return listener;
            }
            Err(error) => assert!(Instant::now() < end, "cannot listen at {address}: {error}"),
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn echo(mut stream: TcpStream) {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) if stream.write_all(&buffer[..count]).is_ok() => {}
            _ => return,
        }
    }
    let _ = stream.shutdown(Shutdown::Write);
}

/// Asks an [`Echo`] for these bytes back.
pub fn round_trip(stream: &mut TcpStream, text: &str) -> io::Result<()> {
    stream.write_all(text.as_bytes())?;
    let mut back = vec![0; text.len()];
    stream.read_exact(&mut back)?;
    if back == text.as_bytes() { Ok(()) } else { Err(io::Error::other(format!("{back:?} came back"))) }
}

/// A command that sees these files as /etc/hosts and /etc/resolv.conf.
pub fn with_etc(hosts: &Path, resolv_conf: &Path, words: &[&str]) -> Command {
    let mut command = Command::new("unshare");
    let script = "mount --bind \"$1\" /etc/hosts && mount --bind \"$2\" /etc/resolv.conf && shift 2 && exec \"$@\"";
    command.args(["--mount", "--propagation", "private", "sh", "-c", script, "sh"]).args([hosts, resolv_conf]);
    command.arg(binary::coracle()).args(words);
    command
}
