//! The leak checker finds what is planted, each kind of it, and says nothing of a clean machine.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use e2e::leaks::{After, Kind, Leak, Network, Scope};
use e2e::loopfs::{self, Mounted};
use e2e::netns::Host;
use e2e::{debian, need, patience, skip};

/// A scope with directories of its own, and no node: these tests plant leaks that a node's drop would fail on.
struct Planted {
    scope: Scope,
    _dir: tempfile::TempDir,
}

fn planted() -> Planted {
    let dir = tempfile::Builder::new().prefix("coracle-leaks-").tempdir().expect("a temporary directory");
    let name = dir.path().file_name().expect("a name").to_string_lossy().into_owned();
    let sub = |name: &str| -> PathBuf {
        let path = dir.path().join(name);
        fs::create_dir(&path).expect("a directory");
        path
    };
    let scope = Scope {
        root_dir: sub("root"),
        state_dir: sub("state"),
        log_dir: sub("log"),
        cgroup_root: name,
        binary: None,
        network: None,
    };
    Planted { scope, _dir: dir }
}

/// A `sleep` that ends with the test.
struct Sleeper(Child);

impl Sleeper {
    fn start(command: &mut Command) -> Self {
        Self(command.stdin(Stdio::null()).spawn().expect("the command starts"))
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        self.0.kill().expect("it is ours");
        self.0.wait().expect("it is ours");
    }
}

#[track_caller]
fn assert_finds(scope: &Scope, kind: Kind, text: &str) {
    // A process needs a moment from its start to the program that makes it ours.
    let deadline = Instant::now() + patience(Duration::from_secs(5));
    loop {
        let leaks = scope.find(After::GcAll);
        if leaks.iter().any(|leak| leak.kind == kind && leak.what.contains(text)) {
            return;
        }
        assert!(Instant::now() < deadline, "no {kind:?} with {text:?} among\n{}", Leak::list(&leaks));
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[track_caller]
fn assert_clean(scope: &Scope) {
    let leaks = scope.settle(After::GcAll, patience(Duration::from_secs(2)));
    assert!(leaks.is_empty(), "{}", Leak::list(&leaks));
}

fn text(path: &Path) -> &str {
    path.to_str().expect("an ASCII path")
}

#[test]
fn a_clean_node_has_no_leaks() {
    let planted = planted();
    fs::create_dir(planted.scope.state_dir.join("sandboxes")).expect("a directory");
    fs::write(planted.scope.state_dir.join("boot.json"), "{}").expect("a file");
    fs::write(planted.scope.root_dir.join("lock"), "").expect("a file");
    fs::create_dir_all(planted.scope.root_dir.join("images/layers/abc/etc")).expect("a directory");
    assert_clean(&planted.scope);
}

#[test]
fn a_process_is_found_by_its_command_line() {
    let planted = planted();
    let marker = planted.scope.state_dir.join("x");
    fs::write(&marker, "").expect("a file");
    let sleeper = Sleeper::start(Command::new("tail").args(["-f", text(&marker)]));
    assert_finds(&planted.scope, Kind::Process, "its command line");
    drop(sleeper);
}

#[test]
fn a_process_is_found_by_its_working_directory() {
    let planted = planted();
    let sleeper = Sleeper::start(Command::new("sleep").arg("60").current_dir(&planted.scope.root_dir));
    assert_finds(&planted.scope, Kind::Process, "cwd");
    drop(sleeper);
    assert_clean(&planted.scope);
}

#[test]
fn a_process_is_found_by_a_descriptor() {
    let planted = planted();
    let held = fs::File::create(planted.scope.state_dir.join("held.lock")).expect("a file");
    let sleeper = Sleeper::start(Command::new("sleep").arg("60").stdout(held));
    assert_finds(&planted.scope, Kind::Process, "descriptor 1");
    drop(sleeper);
}

#[test]
fn a_process_is_found_by_its_cgroup() {
    need!(e2e::skip::root());
    let planted = planted();
    let cgroup = need!(plant_cgroup(&planted.scope));
    let sleeper = Sleeper::start(Command::new("sleep").arg("60"));
    fs::write(cgroup.join("cgroup.procs"), sleeper.0.id().to_string()).expect("the process can be moved");
    assert_finds(&planted.scope, Kind::Process, "cgroup ");
    assert_finds(&planted.scope, Kind::Cgroup, &sleeper.0.id().to_string());
    drop(sleeper);
    planted.scope.scrub();
    assert_clean(&planted.scope);
}

#[test]
fn a_stray_process_of_the_binary_is_found_though_nothing_names_its_node() {
    need!(e2e::skip::root());
    let planted = planted();
    let copy = planted._dir.path().join("coracle-stray");
    fs::copy("/bin/sleep", &copy).expect("sleep can be copied");
    let scope = Scope { binary: Some(copy.clone()), ..planted.scope.clone() };
    // The shell ends at once: its child is adopted by init.
    let script = format!("{} 61 >/dev/null 2>&1 </dev/null & echo $!", copy.display());
    let output = Command::new("sh").args(["-c", &script]).output().expect("a shell");
    let pid: i32 = String::from_utf8_lossy(&output.stdout).trim().parse().expect("a pid");
    let parent = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let adopted = parent.rsplit(") ").next().is_some_and(|rest| rest.split(' ').nth(1) == Some("1"));
    if adopted {
        assert_finds(&scope, Kind::Process, "no node's cgroup");
    }
    let pid = rustix::process::Pid::from_raw(pid).expect("a pid");
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("it runs");
    if !adopted {
        skip!("orphans go to a subreaper here, not to process 1");
    }
    assert_clean(&scope);
}

#[test]
fn a_mount_is_found_by_its_place() {
    need!(e2e::skip::root());
    let planted = planted();
    let point = planted.scope.root_dir.join("containers");
    fs::create_dir(&point).expect("a directory");
    let mounted = need!(Mounted::new(&["-t", "tmpfs", "none"], &point));
    assert_finds(&planted.scope, Kind::Mount, text(&point));
    drop(mounted);
    assert_clean(&planted.scope);
}

#[test]
fn a_mount_is_found_by_its_source() {
    need!(e2e::skip::root());
    let planted = planted();
    let (source, point) = (planted.scope.state_dir.join("sandboxes"), planted._dir.path().join("elsewhere"));
    fs::create_dir(&source).expect("a directory");
    fs::create_dir(&point).expect("a directory");
    let mounted = need!(Mounted::new(&["--bind", text(&source)], &point));
    assert_finds(&planted.scope, Kind::Mount, "elsewhere");
    drop(mounted);
    assert_clean(&planted.scope);
}

#[test]
fn a_mount_in_another_mount_namespace_is_found() {
    need!(e2e::skip::root());
    let planted = planted();
    let point = planted.scope.root_dir.join("hidden");
    fs::create_dir(&point).expect("a directory");
    // The path goes in through a variable, so that only the mount names the node.
    let script = "mount -t tmpfs none \"$POINT\" && exec sleep 60";
    let mut command = Command::new("unshare");
    let sleeper = Sleeper::start(command.args(["--mount", "sh", "-c", script]).env("POINT", &point));
    assert_finds(&planted.scope, Kind::Mount, "in the mount namespace of process");
    drop(sleeper);
    fs::remove_dir(&point).expect("empty again");
    assert_clean(&planted.scope);
}

#[test]
fn a_pinned_namespace_is_found() {
    need!(e2e::skip::root());
    let planted = planted();
    let dir = planted.scope.state_dir.join("ns");
    fs::create_dir(&dir).expect("a directory");
    // A namespace cannot be pinned on a mount that is shared with its own.
    let private = need!(Mounted::new(&["-t", "tmpfs", "none"], &dir));
    need!(private.change("--make-private"));
    let pin = dir.join("net");
    fs::write(&pin, "").expect("a file");
    need!(loopfs::tool("unshare", &[&format!("--net={}", text(&pin)), "true"]));
    assert_finds(&planted.scope, Kind::Namespace, text(&pin));
    need!(loopfs::tool("umount", &[text(&pin)]));
    drop(private);
    assert_clean(&planted.scope);
}

#[test]
fn an_empty_cgroup_root_may_stay_after_a_run_but_not_after_gc_all() {
    need!(e2e::skip::root());
    let planted = planted();
    let cgroup = need!(plant_cgroup(&planted.scope));
    let after = |after| planted.scope.find(after);
    assert_eq!(after(After::Run), []);
    assert_eq!(after(After::GcAll).len(), 1);
    fs::create_dir(cgroup.join("pod")).expect("a cgroup");
    assert_eq!(after(After::Run).len(), 1);
    planted.scope.scrub();
    assert_clean(&planted.scope);
}

#[test]
fn directories_leases_and_temporaries_are_found() {
    let planted = planted();
    let Scope { root_dir, state_dir, log_dir, .. } = &planted.scope;
    for (path, kind) in [
        (root_dir.join("containers/0123"), Kind::File),
        (root_dir.join("pods/uid-1"), Kind::File),
        (root_dir.join("images/tmp/half"), Kind::File),
        (root_dir.join("images/layers/abc.tmp"), Kind::File),
        (root_dir.join("network/leases.json"), Kind::Lease),
        (root_dir.join("network/.leases.json.1.2"), Kind::File),
        (state_dir.join("network/addresses/7"), Kind::Lease),
        (state_dir.join("network/network.json"), Kind::File),
        (state_dir.join("sandboxes/4567"), Kind::File),
        (state_dir.join("runs/run.json"), Kind::File),
        (log_dir.join("default_pod_uid"), Kind::File),
    ] {
        fs::create_dir_all(&path).expect("a directory");
        assert_finds(&planted.scope, kind, text(&path));
        fs::remove_dir(&path).expect("empty");
        assert_clean(&planted.scope);
    }
}

/// A scope with a host, which is in a namespace of its own.
fn planted_host() -> (Planted, Host) {
    let host = Host::new().expect("a network namespace");
    let mut planted = planted();
    planted.scope.network = Some(Network::of(&host));
    (planted, host)
}

/// Runs one of iproute2's or nftables' commands on a host.
#[track_caller]
fn on(host: &Host, program: &Path, line: &str) {
    let mut command = Command::new(program);
    command.args(line.split(' '));
    host.run(command).exits(0);
}

#[test]
fn links_and_claims_are_found_on_the_host_alone() {
    need!(e2e::skip::root());
    let ip = need!(debian::program("ip", "iproute2"));
    let (planted, host) = planted_host();
    assert_clean(&planted.scope);
    for (add, delete, kind, text) in [
        ("link add cor0123 type veth peer name peer0", "link del cor0123", Kind::Link, "cor0123"),
        ("route add unreachable 10.7.0.0/16", "route del unreachable 10.7.0.0/16", Kind::Route, "10.7.0.0/16"),
        ("-6 route add unreachable fd07::/64", "-6 route del unreachable fd07::/64", Kind::Route, "fd07::/64"),
    ] {
        on(&host, &ip, add);
        assert_finds(&planted.scope, kind, text);
        assert_eq!(planted.scope.find(After::Run).len(), 1, "it may not stay after a run either");
        on(&host, &ip, delete);
        assert_clean(&planted.scope);
    }
    on(&host, &ip, "link add other0 type veth peer name other1");
    assert_clean(&planted.scope);
}

#[test]
fn tables_are_found_by_name() {
    need!(e2e::skip::root());
    let nft = need!(debian::program("nft", "nftables"));
    let (planted, host) = planted_host();
    on(&host, &nft, "add table inet somebody");
    assert_clean(&planted.scope);
    on(&host, &nft, "add table inet coracle-0123abcd");
    assert_finds(&planted.scope, Kind::Rules, "coracle-0123abcd");
    on(&host, &nft, "delete table inet coracle-0123abcd");
    on(&host, &nft, "add table ip coracle");
    assert_finds(&planted.scope, Kind::Rules, "coracle");
    on(&host, &nft, "flush ruleset");
    assert_clean(&planted.scope);
}

#[test]
fn a_changed_sysctl_may_stay_after_a_run_but_not_after_gc_all() {
    need!(e2e::skip::root());
    let (planted, host) = planted_host();
    let set = |name: &str, value: &str| {
        let path = Path::new("/proc/sys").join(name);
        host.within(|| fs::read_to_string(&path).and_then(|old| fs::write(&path, value).map(|()| old)))
    };
    for name in ["net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding", "net/ipv6/conf/default/accept_ra"] {
        let Ok(old) = set(name, "2") else { skip!("no sysctl {name}") };
        assert_finds(&planted.scope, Kind::Sysctl, &name.replace('/', "."));
        assert_eq!(planted.scope.find(After::Run), [], "{name}");
        set(name, old.trim()).expect("it could be set before");
        // Forwarding leaves others changed, as the kernel does it.
        let also = planted.scope.find(After::GcAll);
        assert!(also.iter().all(|leak| leak.what.contains("accept_redirects")), "{}", Leak::list(&also));
    }
}

#[test]
fn an_address_is_a_leak_while_a_pod_holds_it() {
    let planted = planted();
    let addresses = planted.scope.state_dir.join("network/addresses");
    fs::create_dir_all(&addresses).expect("a directory");
    fs::write(planted.scope.state_dir.join("network/lock"), "").expect("a file");
    fs::write(addresses.join("2"), "{\"idle\":17}").expect("a file");
    assert_eq!(planted.scope.find(After::Run), []);
    assert_finds(&planted.scope, Kind::Lease, "network/addresses");
    fs::write(addresses.join("3"), "{\"idle\":null}").expect("a file");
    let held = planted.scope.find(After::Run);
    assert!(matches!(&held[..], [Leak { kind: Kind::Lease, what }] if what.contains("addresses/3")), "{held:?}");
    fs::remove_dir_all(&addresses).expect("ours");
    assert_clean(&planted.scope);
}

#[test]
fn a_process_of_the_binary_on_the_host_is_found() {
    need!(e2e::skip::root());
    let (mut planted, host) = planted_host();
    let copy = planted._dir.path().join("coracle-relay");
    fs::copy("/bin/sleep", &copy).expect("sleep can be copied");
    planted.scope.binary = Some(copy.clone());
    let mut own = Command::new(&copy);
    let own = host.spawn({
        own.arg("61");
        own
    });
    assert_clean(&planted.scope);
    // A child of another process, as a relay is.
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("{} 62; true", copy.display())]);
    let relay = host.spawn(shell);
    assert_finds(&planted.scope, Kind::Process, "network namespace of the node's host");
    drop((own, relay));
    planted.scope.scrub();
    assert_clean(&planted.scope);
}

/// A cgroup with the node's name in the pids or the unified hierarchy.
fn plant_cgroup(scope: &Scope) -> Result<PathBuf, String> {
    let hierarchies = ["/sys/fs/cgroup/pids", "/sys/fs/cgroup/unified", "/sys/fs/cgroup"];
    let writable = hierarchies.iter().find(|dir| Path::new(dir).join("cgroup.procs").exists());
    let cgroup = Path::new(writable.ok_or("no cgroup hierarchy in its usual place")?).join(&scope.cgroup_root);
    fs::create_dir(&cgroup).map_err(|error| format!("cannot create {}: {error}", cgroup.display()))?;
    Ok(cgroup)
}
