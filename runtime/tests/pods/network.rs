//! The pods' network, in a network namespace of the tests' own.

use std::collections::BTreeSet;
use std::io::{BufRead as _, Read as _};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::time::Duration;

use cri_proto::cri::{self, NamespaceMode};
use runtime::Runtime;

use crate::cases::{Case, cases};
use crate::node::{self, Node};

cases![
    a_pod_has_addresses_that_the_host_and_other_pods_reach,
    a_pod_that_is_made_again_keeps_its_address,
    a_published_port_is_reached_by_every_address_of_the_host,
    a_taken_port_is_an_error_that_names_its_holder,
    a_relay_of_a_killed_process_is_collected,
    many_pods_at_once_have_an_address_each,
    two_namesakes_have_two_addresses,
    a_pod_on_the_hosts_network_has_no_address,
    a_pod_that_switches_ipv6_off_has_ipv4,
    another_state_directory_takes_another_range,
    a_range_that_is_taken_is_an_error_that_names_the_pod,
    what_a_killed_process_has_left_is_collected,
    a_lost_record_of_the_network_costs_nothing_but_the_sysctls,
    two_processes_share_one_state_directory,
    a_range_without_a_free_address_is_an_error,
    a_host_without_ipv6_has_pods_without_it,
    a_run_that_ends_leaves_no_rules_and_no_routes,
];

/// What answers there.
fn dial(address: IpAddr, port: u16) -> String {
    let to = SocketAddr::new(address, port);
    let mut text = String::new();
    match TcpStream::connect_timeout(&to, Duration::from_secs(60)).and_then(|mut it| it.read_to_string(&mut text)) {
        Ok(_) => text,
        Err(error) => error.to_string(),
    }
}

/// A pod with a server in it: the sandbox and its addresses.
async fn server(node: &Node, name: &str) -> (String, Vec<IpAddr>) {
    let sandbox = node.sandbox(name, NamespaceMode::Container).await;
    // Its log is of this sandbox alone, though the pod's name may have been another's before.
    let id = node.run(&sandbox, node.config(&format!("server-{sandbox}"), &["serve", "80"])).await;
    node.says(&id, "listening").await;
    let addresses = node.addresses(&sandbox).await;
    (sandbox, addresses)
}

async fn a_pod_has_addresses_that_the_host_and_other_pods_reach(node: &Node) {
    let (one, ones) = server(node, "one").await;
    let (two, twos) = server(node, "two").await;
    assert_eq!((ones.len(), twos.len()), (2, 2), "{ones:?} {twos:?}");
    for (index, address) in ones.iter().enumerate() {
        let answer = dial(*address, 80);
        assert_eq!(answer, format!("hello {}", gateways(&ones)[index]), "the host comes as the gateway");
        let client = node.config(&format!("client-{index}"), &["dial", &SocketAddr::new(*address, 80).to_string()]);
        let id = node.run(&two, client).await;
        let log = node.log(&node.ended(&id).await);
        assert_eq!(log[0].1, format!("hello {}", twos[index]), "pods see each other's own addresses");
    }
    node.remove_sandbox(&two).await;
    let links = || std::fs::read_to_string("/proc/net/dev").unwrap().matches("cor").count();
    while links() > 1 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    for (address, gateway) in ones.iter().zip(gateways(&ones)) {
        assert_eq!(dial(*address, 80), format!("hello {gateway}"), "the end of another pod changes nothing");
    }
    node.remove_sandbox(&one).await;
}

/// The first addresses of the ranges that these are from.
fn gateways(addresses: &[IpAddr]) -> Vec<IpAddr> {
    let first = |it: &IpAddr| match it {
        IpAddr::V4(it) => IpAddr::from([it.octets()[0], it.octets()[1], 0, 1]),
        IpAddr::V6(it) => std::net::Ipv6Addr::from(u128::from(*it) >> 64 << 64 | 1).into(),
    };
    addresses.iter().map(first).collect()
}

async fn a_pod_that_is_made_again_keeps_its_address(node: &Node) {
    let (first, addresses) = server(node, "again").await;
    let between = node.sandbox("between", NamespaceMode::Container).await;
    node.remove_sandbox(&first).await;
    let (second, same) = server(node, "again").await;
    assert_eq!(addresses, same);
    for address in &same {
        let answer = dial(*address, 80);
        assert!(answer.starts_with("hello"), "{address} leads to the new pod at once: {answer}");
    }
    node.remove_sandbox(&between).await;
    node.remove_sandbox(&second).await;
}

/// The host's own addresses work.
pub async fn loopback_up() {
    let (connection, handle, _) = rtnetlink::new_connection().unwrap();
    tokio::spawn(connection);
    handle.link().set(rtnetlink::LinkUnspec::new_with_index(1).up().build()).execute().await.unwrap();
}

fn published(node: &Node, name: &str, ports: &[(u16, u16)]) -> cri::PodSandboxConfig {
    let port = |&(host, container): &(u16, u16)| cri::PortMapping {
        protocol: cri::Protocol::Tcp as i32,
        container_port: container.into(),
        host_port: host.into(),
        host_ip: String::new(),
    };
    let config = node.sandbox_config(name, NamespaceMode::Container);
    cri::PodSandboxConfig { port_mappings: ports.iter().map(port).collect(), ..config }
}

async fn a_published_port_is_reached_by_every_address_of_the_host(node: &Node) {
    let sandbox = node.run_sandbox(published(node, "web", &[(8080, 80)])).await.unwrap();
    let id = node.run(&sandbox, node.config("server", &["serve", "80"])).await;
    node.says(&id, "listening").await;
    let addresses = node.addresses(&sandbox).await;
    let own = [IpAddr::from([127, 0, 0, 1]), std::net::Ipv6Addr::LOCALHOST.into()];
    for address in own.into_iter().chain(gateways(&addresses)) {
        let answer = dial(address, 8080);
        assert!(answer.starts_with("hello "), "{address}: {answer}");
    }
    // The pod itself, by its own published port: the node's address leads back into it.
    for (index, gateway) in gateways(&addresses).into_iter().enumerate() {
        let args = ["dial", &SocketAddr::new(gateway, 8080).to_string()];
        let id = node.run(&sandbox, node.config(&format!("client-{index}"), &args)).await;
        let log = node.log(&node.ended(&id).await);
        assert!(log[0].1.starts_with("hello "), "{gateway}: {log:?}");
    }
    assert!(dial(own[1], 8081).contains("refused"));
    let relay = node.process("coracle-relay default/web");
    node.remove_sandbox(&sandbox).await;
    for address in own {
        assert!(dial(address, 8080).contains("refused"), "{address}");
    }
    let lives = || rustix::process::test_kill_process(relay).is_ok();
    assert!(!node::settled(&false, lives), "the relay ends with its pod");
}

async fn a_taken_port_is_an_error_that_names_its_holder(node: &Node) {
    let first = node.run_sandbox(published(node, "first", &[(8080, 80)])).await.unwrap();
    let error = node.run_sandbox(published(node, "second", &[(8080, 81)])).await.unwrap_err();
    let expected = ["default/second", "host port 8080/tcp", "default/first"];
    assert!(expected.iter().all(|it| error.message().contains(it)), "{error}");
    // What was refused has left nothing, not even its claim on another port.
    node.remove_sandbox(&first).await;
    let error = node.run_sandbox(published(node, "second", &[(8080, 81), (8080, 82)])).await.unwrap_err();
    assert!(error.message().contains("same pod"), "{error}");
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let error = node.run_sandbox(published(node, "second", &[(port, 80)])).await.unwrap_err();
    assert!(error.message().contains(&format!("process {}", std::process::id())), "{error}");
    drop(listener);
    let second = node.run_sandbox(published(node, "second", &[(port, 80), (8080, 80)])).await.unwrap();
    node.remove_sandbox(&second).await;
}

async fn a_relay_of_a_killed_process_is_collected(node: &Node) {
    let mut victim = Victim::start(node, &["publish", "keep", "one"]);
    assert!(!victim.says().is_empty());
    let relay = node.process("coracle-relay default/one");
    victim.kill();
    assert!(rustix::process::test_kill_process(relay).is_ok(), "it serves on while the pod runs");
    victim.kill_and_collect();
    assert!(dial(std::net::Ipv6Addr::LOCALHOST.into(), 8099).contains("refused"));
}

async fn many_pods_at_once_have_an_address_each(node: &Node) {
    let names: Vec<String> = (0..20).map(|it| format!("many-{it}")).collect();
    let sandboxes = names.iter().map(|name| node.sandbox(name, NamespaceMode::Container));
    let sandboxes = futures_util::future::join_all(sandboxes).await;
    let mut all = BTreeSet::new();
    for sandbox in &sandboxes {
        let addresses = node.addresses(sandbox).await;
        assert_eq!(addresses.len(), 2);
        all.extend(addresses);
    }
    assert_eq!(all.len(), 40);
    futures_util::future::join_all(sandboxes.iter().map(|it| node.remove_sandbox(it))).await;
}

async fn two_namesakes_have_two_addresses(node: &Node) {
    let first = node.sandbox("namesake", NamespaceMode::Container).await;
    let mut config = node.sandbox_config("namesake", NamespaceMode::Container);
    config.metadata.as_mut().unwrap().uid = "other".into();
    let second = node.run_sandbox(config).await.unwrap();
    assert_ne!(node.addresses(&first).await, node.addresses(&second).await);
    // The one that came first has the lease.
    let kept = node.addresses(&first).await;
    node.remove_sandbox(&first).await;
    let again = node.sandbox("namesake", NamespaceMode::Container).await;
    assert_eq!(node.addresses(&again).await, kept);
    node.remove_sandbox(&second).await;
    node.remove_sandbox(&again).await;
}

async fn a_pod_on_the_hosts_network_has_no_address(node: &Node) {
    let mut config = node.sandbox_config("host", NamespaceMode::Container);
    let context = config.linux.as_mut().unwrap().security_context.as_mut().unwrap();
    context.namespace_options.as_mut().unwrap().network = NamespaceMode::Node as i32;
    let sandbox = node.run_sandbox(config).await.unwrap();
    assert!(node.addresses(&sandbox).await.is_empty());
    node.remove_sandbox(&sandbox).await;
}

async fn a_pod_that_switches_ipv6_off_has_ipv4(node: &Node) {
    let mut config = node.sandbox_config("v4", NamespaceMode::Container);
    let sysctls = &mut config.linux.as_mut().unwrap().sysctls;
    sysctls.extend(["all", "default"].map(|it| (format!("net.ipv6.conf.{it}.disable_ipv6"), "1".to_owned())));
    let sandbox = node.run_sandbox(config).await.unwrap();
    let addresses = node.addresses(&sandbox).await;
    assert!(addresses.len() == 1 && addresses[0].is_ipv4(), "{addresses:?}");
    node.remove_sandbox(&sandbox).await;
}

async fn another_state_directory_takes_another_range(node: &Node) {
    let (here, ours) = server(node, "here").await;
    let mut victim = Victim::start(node, &["keep", "one"]);
    let theirs = victim.says();
    assert!(!theirs.is_empty() && theirs != ours[0].to_string());
    let network = |it: &str| it.rsplitn(3, '.').last().unwrap().to_owned();
    assert_ne!(network(&theirs), network(&ours[0].to_string()));
    victim.kill_and_collect();
    assert!(dial(ours[0], 80).starts_with("hello"), "the other's end is not ours");
    node.remove_sandbox(&here).await;
}

async fn a_range_that_is_taken_is_an_error_that_names_the_pod(node: &Node) {
    let (here, ours) = server(node, "here").await;
    let range = format!("{}/24", ours[0]).parse::<ipnet::IpNet>().unwrap().trunc();
    let mut victim = Victim::start(node, &["keep", "one", &range.to_string()]);
    let said = victim.says();
    for expected in ["default/one", &range.to_string(), "another Coracle"] {
        assert!(said.contains(expected), "{said}");
    }
    victim.kill_and_collect();
    node.remove_sandbox(&here).await;
}

/// What is on the host once the links of earlier cases' pods have gone with their namespaces, which takes the kernel a
/// moment.
fn settled_on_the_host() -> Vec<String> {
    let mut before = left_on_the_host();
    loop {
        std::thread::sleep(Duration::from_millis(300));
        let now = left_on_the_host();
        if now == before {
            return now;
        }
        before = now;
    }
}

async fn what_a_killed_process_has_left_is_collected(node: &Node) {
    let (here, ours) = server(node, "here").await;
    let before = settled_on_the_host();
    for round in 0..24u64 {
        let mut victim = Victim::start(node, &["one", "two", "three"]);
        victim.says();
        // Anywhere in the making and removing of pods, which takes some milliseconds each.
        std::thread::sleep(Duration::from_micros(round * 1700 % 41_000));
        victim.kill_and_collect();
        assert_eq!(node::settled(&before, left_on_the_host), before, "after round {round}");
    }
    assert!(dial(ours[0], 80).starts_with("hello"));
    node.remove_sandbox(&here).await;
}

async fn a_lost_record_of_the_network_costs_nothing_but_the_sysctls(node: &Node) {
    let (here, _) = server(node, "here").await;
    let before = settled_on_the_host();
    let mut victim = Victim::start(node, &["keep", "one"]);
    assert!(!victim.says().is_empty());
    victim.kill();
    let network = victim.dir.join("state/network");
    std::fs::remove_file(network.join("network.json")).unwrap();
    std::fs::write(network.join("addresses/0"), "{").unwrap();
    let report = victim.runtime().collect(true, &victim.runtime().hold_runs().unwrap()).unwrap();
    assert!(report.failed.is_empty() && report.spared.is_empty(), "{report:?}");
    assert_eq!(node::settled(&before, left_on_the_host), before, "{report:?}");
    node.remove_sandbox(&here).await;
}

async fn two_processes_share_one_state_directory(node: &Node) {
    let mut one = Victim::start(node, &["keep", "one"]);
    let first = one.says();
    let mut two = Victim::start(node, &["keep", "two", "three"]);
    let others = [two.says(), two.says()];
    assert_eq!(BTreeSet::from([&first, &others[0], &others[1]]).len(), 3, "{first} {others:?}");
    let network = |it: &str| it.rsplitn(3, '.').last().unwrap().to_owned();
    assert!(others.iter().all(|it| network(it) == network(&first)), "{first} {others:?}");
    one.kill();
    let report = one.runtime().collect(false, &one.runtime().hold_runs().unwrap()).unwrap();
    assert!(report.failed.is_empty() && report.spared.len() == 2, "{report:?}");
    // Nobody listens in these pods: to be refused is to be reached.
    for address in &others {
        assert!(dial(address.parse().unwrap(), 80).contains("refused"), "{address}");
    }
    two.kill_and_collect();
}

async fn a_range_without_a_free_address_is_an_error(node: &Node) {
    let names = ["a", "b", "c", "d", "e", "f"];
    let mut victim = Victim::start(node, &[&["keep", "10.222.0.0/29"], &names[..]].concat());
    let said: Vec<String> = names.iter().map(|_| victim.says()).collect();
    let had: BTreeSet<&str> = said[..5].iter().map(String::as_str).collect();
    assert_eq!(had, BTreeSet::from(["10.222.0.2", "10.222.0.3", "10.222.0.4", "10.222.0.5", "10.222.0.6"]), "{said:?}");
    assert!(said[5].contains("default/f") && said[5].contains("all 5 addresses"), "{said:?}");
    victim.kill_and_collect();
}

async fn a_host_without_ipv6_has_pods_without_it(node: &Node) {
    let mut victim = Victim::start(node, &["alone", "no-ipv6", "keep", "one"]);
    let address = victim.says();
    assert!(address.parse::<std::net::Ipv4Addr>().is_ok(), "{address}");
    assert!(victim.says().contains("refused"), "the host reaches the pod");
    victim.kill_and_collect();
}

async fn a_run_that_ends_leaves_no_rules_and_no_routes(node: &Node) {
    let mut victim = Victim::start(node, &["alone", "end", "one"]);
    let address = victim.says();
    assert!(address.parse::<std::net::Ipv4Addr>().is_ok(), "{address}");
    assert!(victim.says().contains("refused"), "the host reaches the pod");
    assert_eq!(victim.says(), "left: []");
    victim.kill_and_collect();
}

/// Links, routes and tables of Coracles.
fn left_on_the_host() -> Vec<String> {
    let text = |path: &str| std::fs::read_to_string(path).unwrap();
    let links = text("/proc/net/dev");
    let links = links.lines().filter_map(|it| it.trim().split(':').next()).filter(|it| it.starts_with("cor"));
    // Unreachable routes have no interface, or, in IPv6, `lo`; the ranges are private ones. Without counters.
    let (v4, v6) = (text("/proc/net/route"), text("/proc/net/ipv6_route"));
    let v4 = v4.lines().filter(|it| it.starts_with("cor") || it.starts_with('*')).map(|it| &it[..it.len().min(40)]);
    let v6 = v6.lines().filter(|it| it.starts_with("fd")).map(|it| &it[..it.len().min(80)]);
    let routes = v4.chain(v6).map(str::to_owned);
    let tables = runtime::network::nft::Table::list_ours().unwrap();
    let mut all: Vec<String> = links.map(str::to_owned).chain(routes).chain(tables).collect();
    all.sort();
    all
}

/// A process with a state directory of its own that makes and removes pods until it is killed.
struct Victim {
    child: std::process::Child,
    output: std::io::BufReader<std::process::ChildStdout>,
    dir: std::path::PathBuf,
    cgroup_root: String,
}

impl Victim {
    /// `args`: names of pods, ranges, and `alone` (a host of its own), `no-ipv6`, `keep` (the pods), `end` (the run).
    fn start(node: &Node, args: &[&str]) -> Self {
        let dir = node.path().join("victim");
        let cgroup_root = format!("coracle-test-victim-{}", std::process::id());
        let mut child = Command::new("/proc/self/exe")
            .args(["victim".as_ref(), dir.as_os_str(), cgroup_root.as_ref()])
            .args(args)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = std::io::BufReader::new(child.stdout.take().unwrap());
        Self { child, output, dir, cgroup_root }
    }

    fn says(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        line.trim().to_owned()
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    fn runtime(&self) -> Runtime {
        Runtime::open(node::options(&self.dir, &self.cgroup_root), None).unwrap()
    }

    fn kill_and_collect(mut self) {
        self.kill();
        let runtime = self.runtime();
        let report = runtime.collect(false, &runtime.hold_runs().unwrap()).unwrap();
        assert!(report.failed.is_empty() && report.spared.is_empty(), "{report:?}");
        let sandboxes = std::fs::read_dir(self.dir.join("state/sandboxes")).unwrap().count();
        assert_eq!(sandboxes, 0, "{report:?}");
        let again = runtime.collect(false, &runtime.hold_runs().unwrap()).unwrap();
        assert!(again.removed.is_empty(), "{again:?}");
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        // Where a test fails half way; a second time is an error that says nothing.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The victim's own side.
pub fn victim(args: &[String]) -> std::process::ExitCode {
    let [dir, cgroup_root, rest @ ..] = args else { panic!("{args:?}") };
    let has = |flag: &str| rest.iter().any(|it| it == flag);
    if has("alone") {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
    }
    if has("no-ipv6") && std::path::Path::new("/proc/sys/net/ipv6").exists() {
        std::fs::write("/proc/sys/net/ipv6/conf/all/disable_ipv6", "1").unwrap();
    }
    let (ranges, names): (Vec<&String>, Vec<&String>) = rest
        .iter()
        .filter(|it| !["alone", "no-ipv6", "keep", "end", "publish"].contains(&it.as_str()))
        .partition(|it| it.contains('/'));
    let mut options = node::options(dir.as_ref(), cgroup_root);
    options.network.pod_cidrs = ranges.iter().map(|it| it.parse().unwrap()).collect();
    let run = format!("victim-{}", std::process::id());
    let node = Node::of_run(options, &run, runtime::zygote::prepare().unwrap());
    let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    tokio.block_on(async {
        loop {
            for name in &names {
                let ports: &[(u16, u16)] = if has("publish") { &[(8099, 80)] } else { &[] };
                match node.run_sandbox(published(&node, name, ports)).await {
                    Err(error) => println!("{}", error.message()),
                    Ok(id) => {
                        let address = node.addresses(&id).await[0];
                        println!("{address}");
                        if has("alone") {
                            println!("{}", dial(address, 80));
                        }
                        if !has("keep") {
                            node.remove_sandbox(&id).await;
                        }
                    }
                }
            }
            if has("end") {
                node.runtime.end_run(&run).unwrap();
                println!("left: {:?}", left_on_the_host());
            }
            if has("keep") || has("end") {
                std::future::pending::<()>().await;
            }
        }
    });
    std::process::ExitCode::SUCCESS
}
