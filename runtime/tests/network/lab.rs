//! A host, three pods and a neighbour, each a network namespace; they end with this process.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, SocketAddrV6, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, setns, unshare};
use runtime::cgroup::{Cgroup, Hierarchies};
use runtime::network::nft::{Desired, NetworkRules, PodRules, Table};
use runtime::network::ports::{PortMapping, Protocol};
use runtime::zygote::Zygote;
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};

/// How long nothing has to come before it counts as lost.
pub const SILENCE: Duration = Duration::from_millis(400);
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// The group of pods' links.
pub const LINKS: u32 = 77;
pub const HOST: &str = "host";
pub const OUTSIDE: &str = "outside";
pub const PODS: [&str; 3] = ["pod1", "pod2", "pod3"];

/// Network and mounts of this process's own: `ip netns` keeps its names below /run.
pub fn enter_own_namespaces() {
    unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).unwrap();
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).unwrap();
    mount("tmpfs", "/run", "tmpfs", MountFlags::empty(), None).unwrap();
}

pub struct Lab {
    pub table: Table,
    /// Gone once a test has ended it.
    pub zygote: Mutex<Option<Zygote>>,
    hierarchies: Hierarchies,
    cgroup_root: String,
}

/// Runs a line of shell in this namespace.
pub fn sh(line: &str) -> String {
    let output = Command::new("sh").args(["-ec", line]).output().unwrap();
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn sysctl(name: &str, value: &str) {
    std::fs::write(format!("/proc/sys/net/{name}"), value).unwrap();
}

pub fn interface(pod: &str) -> String {
    format!("cor{pod}")
}

fn number(pod: &str) -> u8 {
    pod.trim_start_matches("pod").parse::<u8>().unwrap() + 1
}

pub fn v4(pod: &str) -> IpAddr {
    IpAddr::from([10, 77, 0, number(pod)])
}

pub fn v6(pod: &str) -> IpAddr {
    format!("fd77::{}", number(pod)).parse().unwrap()
}

pub const HOST4: &str = "192.0.2.1";
pub const HOST6: &str = "2001:db8::1";
pub const OUTSIDE4: &str = "192.0.2.2";
pub const OUTSIDE6: &str = "2001:db8::2";
pub const GATEWAY4: &str = "10.77.0.1";
pub const GATEWAY6: &str = "fd77::1";

pub fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

pub fn at(address: IpAddr, port: u16) -> SocketAddr {
    SocketAddr::new(address, port)
}

impl Lab {
    pub fn new(zygote: Zygote) -> Self {
        sh("ip link set lo up; ip netns add outside
            ip link add out0 type veth peer name eth0 netns outside
            ip addr add 192.0.2.1/24 dev out0; ip addr add 2001:db8::1/64 dev out0 nodad; ip link set out0 up
            ip -n outside link set lo up
            ip -n outside addr add 192.0.2.2/24 dev eth0; ip -n outside addr add 2001:db8::2/64 dev eth0 nodad
            ip -n outside addr add 192.0.2.3/24 dev eth0
            ip -n outside link set eth0 up
            ip -n outside route add 10.77.0.0/24 via 192.0.2.1; ip -n outside route add fd77::/64 via 2001:db8::1
            ip -n outside route add 127.0.0.5/32 via 192.0.2.1 2>/dev/null || true");
        sysctl("ipv4/ip_forward", "1");
        sysctl("ipv6/conf/all/forwarding", "1");
        for pod in PODS {
            add_pod(pod);
        }
        let cgroup_root = format!("coracle-test-network-{}", std::process::id());
        Self {
            table: Table::open("coracle").unwrap(),
            zygote: Mutex::new(Some(zygote)),
            hierarchies: Hierarchies::discover(Path::new("/proc"), &cgroup_root).unwrap(),
            cgroup_root,
        }
    }

    /// Where a relay is to live.
    pub fn cgroup(&self) -> Cgroup {
        self.hierarchies.create(&format!("{}/shim", self.cgroup_root)).unwrap()
    }

    /// All pods with these ports, each by the pod that has them.
    pub fn desired(&self, ports: &[(&str, PortMapping)]) -> Desired {
        let pods = PODS.iter().map(|pod| PodRules {
            interface: interface(pod),
            addresses: vec![v4(pod), v6(pod)],
            ports: ports.iter().filter(|(it, _)| it == pod).map(|(_, port)| *port).collect(),
            ..PodRules::default()
        });
        let flat = NetworkRules {
            masquerade: true,
            ranges: vec!["10.77.0.0/24".parse().unwrap(), "fd77::/64".parse().unwrap()],
            gateways: vec![ip(GATEWAY4), ip(GATEWAY6)],
            ..NetworkRules::default()
        };
        Desired { links: LINKS, networks: vec![flat], pods: pods.collect(), ..Desired::default() }
    }

    /// The table as `nft` shows it; `None` when there is no such program here.
    pub fn list(&self) -> Option<String> {
        let output = Command::new("nft").args(["list", "table", "inet", "coracle"]).output().ok()?;
        Some(String::from_utf8(output.stdout).unwrap())
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.hierarchies.remove(&format!("{}/shim", self.cgroup_root), PATIENCE).unwrap();
        self.hierarchies.prune().unwrap();
    }
}

fn add_pod(pod: &str) {
    let (name, four, six) = (interface(pod), v4(pod), v6(pod));
    sh(&format!(
        "ip netns add {pod}; ip link add {name} type veth peer name eth0 netns {pod}
         ip addr add {GATEWAY4}/32 dev {name}; ip addr add {GATEWAY6}/128 dev {name} nodad
         ip -n {pod} link set lo up
         ip -n {pod} addr add {four}/32 dev eth0; ip -n {pod} addr add {six}/128 dev eth0 nodad
         ip -n {pod} link set eth0 up; ip link set {name} up group {LINKS}
         ip route add {four}/32 dev {name}; ip route add {six}/128 dev {name}
         ip -n {pod} route add {GATEWAY4}/32 dev eth0 scope link; ip -n {pod} route add default via {GATEWAY4}
         ip -n {pod} route add {GATEWAY6}/128 dev eth0; ip -n {pod} route add default via {GATEWAY6}"
    ));
    sysctl(&format!("ipv4/conf/{name}/route_localnet"), "1");
}

pub fn mapping(host_port: u16, container_port: u16) -> PortMapping {
    PortMapping { protocol: Protocol::Tcp, container_port, host_port, host_ip: None }
}

/// Does something in a namespace: a thread enters it and ends there.
pub fn within<T: Send + 'static>(place: &str, work: impl FnOnce() -> T + Send + 'static) -> T {
    start_within(place, work).join().unwrap()
}

pub fn start_within<T: Send + 'static>(place: &str, work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    let namespace = (place != HOST).then(|| File::open(format!("/run/netns/{place}")).unwrap());
    std::thread::spawn(move || {
        if let Some(namespace) = namespace {
            setns(namespace, CloneFlags::CLONE_NEWNET).unwrap();
        }
        work()
    })
}

/// A server of both transports that says to each client who is speaking and what client it sees.
pub struct Server {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Server {
    pub fn start(place: &'static str, address: SocketAddr) -> Self {
        let (tcp, udp) =
            within(place, move || (TcpListener::bind(address).unwrap(), UdpSocket::bind(address).unwrap()));
        let stop = Arc::new(AtomicBool::new(false));
        tcp.set_nonblocking(true).unwrap();
        udp.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        let (stop_tcp, stop_udp) = (Arc::clone(&stop), Arc::clone(&stop));
        let answer_tcp = move || {
            while !stop_tcp.load(Ordering::Relaxed) {
                match tcp.accept() {
                    Ok((mut conn, peer)) => drop(conn.write_all(format!("{place} {}", peer.ip()).as_bytes())),
                    Err(_) => std::thread::sleep(Duration::from_millis(1)),
                }
            }
        };
        let answer_udp = move || {
            let mut buffer = [0; 100];
            while !stop_udp.load(Ordering::Relaxed) {
                if let Ok((_, peer)) = udp.recv_from(&mut buffer) {
                    drop(udp.send_to(format!("{place} {}", peer.ip()).as_bytes(), peer));
                }
            }
        };
        Self { stop, threads: vec![std::thread::spawn(answer_tcp), std::thread::spawn(answer_udp)] }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            thread.join().unwrap();
        }
    }
}

/// Asks by TCP: who answered, and whom it saw.
pub fn ask(place: &str, to: SocketAddr) -> io::Result<String> {
    ask_for(place, to, PATIENCE)
}

/// Asks by TCP where nothing may answer.
pub fn ask_in_vain(place: &str, to: SocketAddr) -> io::Error {
    ask_for(place, to, SILENCE).map(|it| panic!("{to} answered {place}: {it}")).unwrap_err()
}

fn ask_for(place: &str, to: SocketAddr, patience: Duration) -> io::Result<String> {
    within(place, move || ask_here(to, patience))
}

/// Asks by UDP, from an address if one is given.
pub fn ask_udp(place: &str, from: Option<SocketAddr>, to: SocketAddr, patience: Duration) -> io::Result<String> {
    within(place, move || {
        let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let socket = UdpSocket::bind(from.unwrap_or(any.parse().unwrap()))?;
        socket.set_read_timeout(Some(patience))?;
        socket.send_to(b"?", to)?;
        let mut buffer = [0; 100];
        let (length, _) = socket.recv_from(&mut buffer)?;
        Ok(String::from_utf8_lossy(&buffer[..length]).into_owned())
    })
}

/// Asks by TCP from the namespace of this thread.
pub fn ask_here(to: SocketAddr, patience: Duration) -> io::Result<String> {
    let mut conn = TcpStream::connect_timeout(&to, patience)?;
    let mut text = String::new();
    conn.set_read_timeout(Some(patience))?;
    conn.read_to_string(&mut text)?;
    Ok(text)
}

pub fn mapping_at(address: &str, host_port: u16, container_port: u16) -> PortMapping {
    PortMapping { host_ip: Some(ip(address)), ..mapping(host_port, container_port) }
}

/// What the counters of a chain's rules come to; `None` without `nft`.
pub fn dropped(lab: &Lab, chain: &str) -> Option<u64> {
    lab.list()?;
    let list = sh(&format!("nft list chain inet coracle {chain}"));
    let mut words = list.split_whitespace();
    let mut all = 0;
    while let Some(word) = words.next() {
        if word == "packets" {
            all += words.next().unwrap().parse::<u64>().unwrap();
        }
    }
    Some(all)
}

/// Whether a chain comes to drop more than before: a packet may still be on its way. Without `nft` it is believed.
pub fn drops_more(lab: &Lab, chain: &str, before: Option<u64>) -> bool {
    let end = Instant::now() + PATIENCE;
    while before.is_some() && dropped(lab, chain) <= before {
        if Instant::now() > end {
            return false;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    true
}

/// Sends an empty ICMPv6 message of a kind to all nodes of the link.
pub fn send_icmpv6(place: &str, from: IpAddr, kind: u8) {
    let scope = index(place);
    use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType, bind, ipproto, sendto, socket_with};
    within(place, move || {
        let socket =
            socket_with(AddressFamily::INET6, SocketType::RAW, SocketFlags::CLOEXEC, Some(ipproto::ICMPV6)).unwrap();
        bind(&socket, &at(from, 0)).unwrap();
        let message = [kind, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let all_nodes = SocketAddrV6::new("ff02::1".parse().unwrap(), 0, 0, scope);
        sendto(&socket, &message, SendFlags::empty(), &all_nodes).unwrap();
    });
}

/// Lines of the one that are not in the other, both ways.
pub fn difference(expected: &str, shown: &str) -> String {
    let missing = expected.lines().filter(|line| !shown.lines().any(|it| it == *line)).map(|it| format!("- {it}\n"));
    let added = shown.lines().filter(|line| !expected.lines().any(|it| it == *line)).map(|it| format!("+ {it}\n"));
    missing.chain(added).collect()
}

/// The number of a pod's link.
pub fn index(pod: &str) -> u32 {
    sh(&format!("ip -n {pod} -o link show dev eth0")).split(':').next().unwrap().parse().unwrap()
}

/// The link-local address of a link, as a pod has to name it.
pub fn link_local(command: &str, dev: &str, port: u16, scope: u32) -> SocketAddr {
    let shown = sh(&format!("{command} -6 -o addr show dev {dev} scope link"));
    let address = shown.split_whitespace().nth(3).unwrap().split('/').next().unwrap().parse().unwrap();
    SocketAddrV6::new(address, port, 0, scope).into()
}

/// Whether an echo request is answered.
pub fn ping(place: &str, to: IpAddr) -> bool {
    use rustix::net::{
        AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, ipproto, recv, sendto, socket_with,
    };
    within(place, move || {
        // With the checksum of just these bytes; the kernel makes that of ICMPv6 itself.
        let (family, protocol, request, answer) = match to {
            IpAddr::V4(_) => (AddressFamily::INET, ipproto::ICMP, [8, 0, 0xf7, 0xff, 0, 0, 0, 0], (20, 0)),
            IpAddr::V6(_) => (AddressFamily::INET6, ipproto::ICMPV6, [128, 0, 0, 0, 0, 0, 0, 0], (0, 129)),
        };
        let socket = socket_with(family, SocketType::RAW, SocketFlags::CLOEXEC, Some(protocol)).unwrap();
        rustix::net::sockopt::set_socket_timeout(&socket, rustix::net::sockopt::Timeout::Recv, Some(PATIENCE)).unwrap();
        sendto(&socket, &request, SendFlags::empty(), &at(to, 0)).unwrap();
        let mut buffer = [0; 100];
        while let Ok((_, length)) = recv(&socket, &mut buffer, RecvFlags::empty()) {
            if length > answer.0 && buffer[answer.0] == answer.1 {
                return true;
            }
        }
        false
    })
}
