//! The applets as a container runs them: the built binary, its exit codes and its output.
#![allow(clippy::unwrap_used)]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

fn tool(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_coracle"));
    command.arg("tool").args(args);
    command
}

fn run(args: &[&str]) -> Output {
    tool(args).output().unwrap()
}

#[track_caller]
fn expect(args: &[&str], code: i32, stdout: &str, stderr: &str) {
    let got = run(args);
    let errors = String::from_utf8_lossy(&got.stderr);
    assert_eq!((got.status.code(), String::from_utf8_lossy(&got.stdout).as_ref()), (Some(code), stdout), "{errors}");
    assert!(errors.contains(stderr), "{errors:?} does not contain {stderr:?}");
    assert_eq!(stderr.is_empty(), errors.is_empty(), "{errors:?}");
}

/// Says why a test does nothing, where CI collects it.
fn skip(why: &str) {
    eprintln!("skipped: {why}");
    if let Some(log) = std::env::var_os("CORACLE_SKIP_LOG") {
        let mut log = std::fs::File::options().create(true).append(true).open(log).unwrap();
        writeln!(log, "skipped: {why}").unwrap();
    }
}

/// A process that is killed and waited for whatever becomes of the test.
struct Running(Child);

impl Running {
    /// Starts an applet and returns its first line of output.
    fn start(args: &[&str]) -> (Self, String, BufReader<ChildStdout>) {
        Self::spawn(tool(args))
    }

    fn spawn(mut command: Command) -> (Self, String, BufReader<ChildStdout>) {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let running = Self(child);
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        (running, line, stdout)
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.0), signal).unwrap();
    }

    /// The exit code, which has to come promptly.
    fn ends(&mut self) -> Option<i32> {
        let deadline = Instant::now() + Duration::from_secs(5);
        loop {
            if let Some(status) = self.0.try_wait().unwrap() {
                return status.code();
            }
            assert!(Instant::now() < deadline, "it does not end");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn an_unknown_applet_is_not_found() {
    let got = run(&["nonsense"]);
    assert_eq!(got.status.code(), Some(127));
    let errors = String::from_utf8(got.stderr).unwrap();
    assert!(errors.contains("unknown applet nonsense") && errors.contains("  serve "), "{errors}");
    assert_eq!(run(&[]).status.code(), Some(127));
}

#[test]
fn every_applet_in_the_list_has_a_usage() {
    let list = String::from_utf8(run(&["help"]).stdout).unwrap();
    let names: Vec<_> = list.lines().skip(3).filter_map(|line| line.split_whitespace().next()).collect();
    assert!(names.contains(&"serve") && names.contains(&"fetch"), "{list}");
    for name in names.into_iter().filter(|&name| name != "echo") {
        let got = run(&[name, "--help"]);
        assert!(got.status.success(), "{name}");
        assert!(String::from_utf8(got.stdout).unwrap().starts_with(&format!("usage: coracle tool {name}")), "{name}");
    }
}

#[test]
fn plain_applets_do_what_their_namesakes_do() {
    expect(&["echo", "a b", "--help"], 0, "a b --help\n", "");
    expect(&["exit", "3"], 3, "", "");
    expect(&["exit", "256"], 2, "", "needs a code from 0 to 255");
    expect(&["cat", "/nowhere"], 1, "", "cat: /nowhere: No such file");
    let got = tool(&["env"]).env_clear().env("A", "1").output().unwrap();
    assert_eq!(String::from_utf8(got.stdout).unwrap(), "A=1\n");
}

#[test]
fn what_write_writes_cat_prints() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x");
    expect(&["write", path.to_str().unwrap(), "hello", "there"], 0, "", "");
    expect(&["cat", path.to_str().unwrap()], 0, "hello there\n", "");
}

#[test]
fn nobody_reading_is_no_failure() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let got = tool(&["echo", "x"]).stdout(writer).stderr(Stdio::piped()).output().unwrap();
    assert_eq!((got.status.code(), got.stderr.as_slice()), (Some(0), &b""[..]));
}

#[test]
fn sleeping_ends_by_itself_or_at_once_when_told() {
    expect(&["sleep", "0.01"], 0, "", "");
    expect(&["sleep", "soon"], 2, "", "soon is not a number of seconds");
    for (signal, code) in [(Signal::TERM, 143), (Signal::INT, 130)] {
        let mut sleep = Running(tool(&["sleep", "inf"]).spawn().unwrap());
        // Before it has blocked its signals the default action ends it, without an exit code.
        std::thread::sleep(Duration::from_millis(300));
        sleep.signal(signal);
        assert_eq!(sleep.ends(), Some(code));
    }
}

#[test]
fn eaten_memory_is_resident() {
    let (mut eat, line, _) = Running::start(&["eat", "32Mi"]);
    assert_eq!(line, "holding 33554432 bytes\n");
    let status = std::fs::read_to_string(format!("/proc/{}/status", eat.0.id())).unwrap();
    let resident = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    let kib: u64 = resident.trim().trim_end_matches(" kB").parse().unwrap();
    assert!((32 * 1024..48 * 1024).contains(&kib), "{kib} KiB");
    eat.signal(Signal::TERM);
    assert_eq!(eat.ends(), Some(143));
}

#[test]
fn spinning_ends() {
    let start = Instant::now();
    expect(&["spin", "0.1"], 0, "", "");
    assert!(start.elapsed() >= Duration::from_millis(100));
}

/// As process 1 of a pid namespace the kernel applies no default action, and orphans come to the process.
#[test]
fn as_process_1_signals_work_and_orphans_are_reaped() {
    if !rustix::process::geteuid().is_root() {
        return skip("as_process_1_signals_work_and_orphans_are_reaped: not root");
    }
    let mut unshare = Command::new("unshare");
    let script = "sh -c 'sleep 0.2 & exec true' & exec \"$0\" tool serve --port 0";
    unshare.args(["--pid", "--fork", "--mount-proc", "sh", "-c", script, env!("CARGO_BIN_EXE_coracle")]);
    let (mut outer, line, _) = Running::spawn(unshare);
    assert!(line.starts_with("serving on"), "{line}");
    let children = |pid: u32| -> Vec<u32> {
        let text = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        text.split_whitespace().map(|pid| pid.parse().unwrap()).collect()
    };
    let init = children(outer.0.id())[0];
    let deadline = Instant::now() + Duration::from_secs(5);
    while !children(init).is_empty() {
        assert!(Instant::now() < deadline, "orphans stay: {:?}", children(init));
        std::thread::sleep(Duration::from_millis(10));
    }
    kill_process(Pid::from_raw(init as i32).unwrap(), Signal::TERM).unwrap();
    assert_eq!(outer.ends(), Some(143));
}

/// Starts `serve` on a free port.
fn serve(args: &[&str]) -> (Running, u16) {
    let (running, line, _) = Running::start(&[&["serve", "--port", "0"], args].concat());
    let port = line.trim().rsplit_once(':').and_then(|(_, port)| port.parse().ok()).unwrap();
    (running, port)
}

#[test]
fn serve_answers_fetch_over_both_families() {
    let (mut server, port) = serve(&["--text", "good day"]);
    for host in ["127.0.0.1", "[::1]", "localhost"] {
        expect(&["fetch", &format!("http://{host}:{port}/any?where")], 0, "good day\n", "");
    }
    server.signal(Signal::TERM);
    assert_eq!(server.ends(), Some(143));
}

#[test]
fn serve_says_hello_from_its_pod() {
    let mut command = tool(&["serve", "--port=0", "--address=127.0.0.1"]);
    command.env("POD_NAME", "web");
    let (_server, line, _) = Running::spawn(command);
    let address = line.trim().strip_prefix("serving on ").unwrap();
    expect(&["fetch", &format!("http://{address}")], 0, "hello from web\n", "");
}

#[test]
fn a_connection_is_kept_alive_and_others_are_served_beside_it() {
    let (_server, port) = serve(&["--text", "x"]);
    let mut idle = TcpStream::connect(("127.0.0.1", port)).unwrap();
    idle.write_all(b"GET / HTTP/1.1\r\n").unwrap();
    let mut kept = TcpStream::connect(("127.0.0.1", port)).unwrap();
    kept.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let requests = "POST / HTTP/1.1\r\ncontent-length: 3\r\n\r\nabcHEAD / HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\nconnection: close\r\n\r\n";
    kept.write_all(requests.as_bytes()).unwrap();
    let mut answers = String::new();
    kept.read_to_string(&mut answers).unwrap();
    assert_eq!(answers.matches("HTTP/1.1 200 OK\r\n").count(), 3, "{answers}");
    assert_eq!(answers.matches("\r\n\r\nx\n").count(), 2, "a HEAD has no body: {answers}");
}

#[test]
fn a_port_in_use_is_named() {
    let taken = TcpListener::bind("0.0.0.0:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    expect(&["serve", "--port", &port.to_string()], 1, "", &format!("serve: listen on port {port}: Address already"));
    expect(&["serve"], 2, "", "--port is missing");
}

/// A server that says one thing to each of its clients.
fn says(answer: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = BufReader::new(stream.try_clone().unwrap());
        let mut line = String::from("-");
        while !line.trim().is_empty() {
            line.clear();
            request.read_line(&mut line).unwrap();
        }
        stream.write_all(answer.as_bytes()).unwrap();
    });
    url
}

#[test]
fn fetch_reads_every_kind_of_body() {
    for answer in [
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi and more",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nh\r\n1\r\ni\r\n0\r\n\r\n",
        "HTTP/1.0 200 OK\r\n\r\nhi",
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi",
    ] {
        expect(&["fetch", &says(answer)], 0, "hi", "");
    }
}

#[test]
fn fetch_says_why_it_fails() {
    for (answer, why) in [
        ("HTTP/1.1 404 Not Found\r\n\r\n", "the server answers 404 Not Found"),
        ("HTTP/1.1 301 Moved\r\nlocation: http://x/\r\n\r\n", "301 Moved (see http://x/)"),
        ("SSH-2.0-OpenSSH\r\n\r\n", "this is not HTTP/1"),
        ("", "closed the connection without an answer"),
    ] {
        expect(&["fetch", &says(answer)], 1, "", why);
    }
    let cut = run(&["fetch", &says("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhi")]);
    assert_eq!((cut.status.code(), cut.stdout.as_slice()), (Some(1), &b"hi"[..]));
    assert!(String::from_utf8_lossy(&cut.stderr).contains("closed after 2 of 9 bytes"));
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    expect(&["fetch", &format!("http://{free}")], 1, "", "Connection refused");
    expect(&["fetch", "https://x"], 2, "", "only http://");
}

#[test]
fn fetch_gives_up_in_time() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let start = Instant::now();
    let url = format!("http://{}", silent.local_addr().unwrap());
    expect(&["fetch", "--timeout", "200ms", &url], 1, "", "timed out");
    assert!(start.elapsed() < Duration::from_secs(2));
}
