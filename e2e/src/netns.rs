//! Network namespaces of a test's own: the host that a node runs on, and a neighbour of it.
//!
//! A namespace is held by a descriptor alone: it goes with the test process, however that ends. A thread that is thrown
//! away enters it; what the thread starts is born there.

use std::fmt;
use std::fs::File;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Child, Command};
use std::sync::Arc;

use nix::sched::CloneFlags;
use rtnetlink::packet_route::address::AddressHeaderFlags;
use rtnetlink::packet_route::link::{InfoData, InfoVeth};
use rtnetlink::{Handle, LinkMessageBuilder, LinkUnspec, LinkVeth, RouteMessageBuilder};
use rustix::net;
use rustix::process::Pid;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::finished::Finished;
use crate::process::{Run, Start};

/// The addresses of a node's host on the link to its outside.
pub const HOST: [IpAddr; 2] = [v4(1), v6(1)];

/// The addresses of the outside: the host's default gateways.
pub const OUTSIDE: [IpAddr; 2] = [v4(2), v6(2)];

/// The name of the link between the two, at either end.
pub const LINK: &str = "eth0";

const fn v4(last: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(192, 0, 2, last))
}

const fn v6(last: u16) -> IpAddr {
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last))
}

/// A machine as far as its network goes.
#[derive(Clone)]
pub struct Host(Option<Arc<OwnedFd>>);

impl Host {
    /// A new namespace, with its loopback up and nothing else.
    pub fn new() -> io::Result<Self> {
        aside(|| {
            nix::sched::unshare(CloneFlags::CLONE_NEWNET)?;
            let namespace = File::open("/proc/thread-self/ns/net")?;
            configure(async |netlink| netlink.link().set(LinkUnspec::new_with_index(1).up().build()).execute().await)?;
            Ok(Self(Some(Arc::new(namespace.into()))))
        })
    }

    /// The machine that the tests run on, for a user who may make no namespaces.
    pub fn machine() -> Self {
        Self(None)
    }

    /// The namespace that a process is in.
    pub fn of_process(pid: Pid) -> io::Result<Self> {
        let namespace = File::open(format!("/proc/{}/ns/net", pid.as_raw_nonzero()))?;
        Ok(Self(Some(Arc::new(namespace.into()))))
    }

    /// Another namespace, joined to this one by a veth pair, which is this one's way to everywhere.
    pub fn join_outside(&self) -> io::Result<Self> {
        let outside = Self::new()?;
        let descriptor = outside.0.as_ref().map_or(-1, |namespace| namespace.as_raw_fd());
        let far = LinkMessageBuilder::<LinkUnspec>::new().name(LINK.to_owned()).setns_by_fd(descriptor);
        let veth = LinkVeth::new(LINK, LINK).set_info_data(InfoData::Veth(InfoVeth::Peer(far.build())));
        let add = async |netlink: Handle| netlink.link().add(veth.build()).execute().await;
        self.within(|| configure(add))?;
        outside.within(|| address_link(OUTSIDE, None))?;
        self.within(|| address_link(HOST, Some(OUTSIDE)))?;
        Ok(outside)
    }

    /// Has what goes to `range` (`ADDRESS/LENGTH`) go by way of `gateway`, which is of its family.
    pub fn route(&self, range: &str, gateway: IpAddr) -> io::Result<()> {
        let wrong = || io::Error::other(format!("{range:?} is no range of addresses"));
        let (address, length) = range.split_once('/').ok_or_else(wrong)?;
        let (address, length) = (address.parse().map_err(|_| wrong())?, length.parse().map_err(|_| wrong())?);
        let route = match (address, gateway) {
            (IpAddr::V4(address), IpAddr::V4(gateway)) => {
                RouteMessageBuilder::<Ipv4Addr>::new().destination_prefix(address, length).gateway(gateway).build()
            }
            (IpAddr::V6(address), IpAddr::V6(gateway)) => {
                RouteMessageBuilder::<Ipv6Addr>::new().destination_prefix(address, length).gateway(gateway).build()
            }
            _ => return Err(io::Error::other(format!("{range} and {gateway} are not of one family"))),
        };
        self.within(|| configure(async |netlink| netlink.route().add(route).execute().await))
    }

    /// Runs `action` on a thread in this namespace: what it binds, connects, starts or reads below `/proc/net` and
    /// `/proc/sys/net` is this machine's.
    pub fn within<T: Send>(&self, action: impl FnOnce() -> T + Send) -> T {
        let Some(namespace) = &self.0 else { return action() };
        aside(|| {
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
                .unwrap_or_else(|error| panic!("cannot enter a network namespace: {error}"));
            action()
        })
    }

    /// Waits until nobody else can claim an IPv6 address of this machine (RFC 4862, 5.4): what it forwards to a neighbour
    /// before that, it cannot ask for.
    #[track_caller]
    pub fn wait_until_settled(&self) {
        /// linux/if_addr.h, IFA_F_TENTATIVE.
        const TENTATIVE: u32 = 0x40;
        let tentative = |line: &str| {
            let flags = line.split_whitespace().nth(4).and_then(|flags| u32::from_str_radix(flags, 16).ok());
            flags.is_some_and(|flags| flags & TENTATIVE != 0)
        };
        let settled = || {
            // There is none where the kernel has no IPv6.
            let table = self.within(|| std::fs::read_to_string("/proc/thread-self/net/if_inet6")).unwrap_or_default();
            !table.lines().any(tentative)
        };
        crate::inspect::wait_until("every IPv6 address is the machine's own", settled);
    }

    /// A command that starts here, wherever it is started from.
    pub fn command(&self, command: Command) -> HostCommand {
        HostCommand { command, host: self.clone() }
    }

    /// Runs a command to its end.
    pub fn run(&self, command: Command) -> Finished {
        self.spawn(command).wait()
    }

    /// Starts a command.
    pub fn spawn(&self, command: Command) -> Run {
        Run::start(&mut self.command(command), None)
    }

    /// The kernel's number of the namespace, as `/proc/PID/ns/net` shows it.
    pub fn inode(&self) -> u64 {
        let fstat = |namespace: &Arc<OwnedFd>| rustix::fs::fstat(namespace).map(|data| data.st_ino);
        let of_machine = || std::fs::metadata("/proc/self/ns/net").map(|data| data.ino());
        self.0.as_ref().map_or_else(of_machine, |namespace| Ok(fstat(namespace)?)).expect("a namespace has a number")
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "net:[{}]", self.inode())
    }
}

/// A command bound to a host.
#[derive(Debug)]
pub struct HostCommand {
    command: Command,
    host: Host,
}

impl HostCommand {
    /// Appends an argument.
    pub fn arg(&mut self, arg: impl AsRef<std::ffi::OsStr>) -> &mut Self {
        self.command.arg(arg);
        self
    }

    /// Appends arguments.
    pub fn args<S: AsRef<std::ffi::OsStr>>(&mut self, args: impl IntoIterator<Item = S>) -> &mut Self {
        self.command.args(args);
        self
    }

    /// Sets a variable of its environment.
    pub fn env(&mut self, key: &str, value: impl AsRef<std::ffi::OsStr>) -> &mut Self {
        self.command.env(key, value);
        self
    }

    /// The command alone, without its host.
    pub fn inner(&self) -> &Command {
        &self.command
    }

    /// Runs it to its end and takes its output.
    pub fn output(&mut self) -> io::Result<std::process::Output> {
        let Self { command, host } = self;
        host.within(|| command.output())
    }
}

impl Start for HostCommand {
    fn command(&mut self) -> &mut Command {
        &mut self.command
    }

    fn start(&mut self) -> io::Result<Child> {
        let Self { command, host } = self;
        host.within(|| command.spawn())
    }
}

/// Runs `action` on a thread of its own, with the name of this one, which skips and failures show.
fn aside<T: Send>(action: impl FnOnce() -> T + Send) -> T {
    let name = std::thread::current().name().unwrap_or("main").to_owned();
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name(name).spawn_scoped(scope, action).expect("a thread");
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Runs `change` with a connection to the kernel from the calling thread's namespace.
fn configure(change: impl AsyncFnOnce(Handle) -> Result<(), rtnetlink::Error>) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    runtime.block_on(async {
        let (connection, handle, _) = rtnetlink::new_connection()?;
        let connection = tokio::spawn(connection);
        let changed = change(handle).await;
        connection.abort();
        changed.map_err(io::Error::other)
    })
}

/// Gives [`LINK`] its addresses, of the families that the kernel has, sets it up, and makes `gateways` the way out.
fn address_link(addresses: [IpAddr; 2], gateways: Option<[IpAddr; 2]>) -> io::Result<()> {
    let socket = net::socket(net::AddressFamily::INET, net::SocketType::DGRAM, None)?;
    let index = net::netdevice::name_to_index(socket, LINK)?;
    let has_v6 = Path::new("/proc/net/if_inet6").exists();
    let usable = |address: &IpAddr| address.is_ipv4() || has_v6;
    configure(async |netlink| {
        netlink.link().set(LinkUnspec::new_with_index(index).up().build()).execute().await?;
        for address in addresses.into_iter().filter(usable) {
            let length = if address.is_ipv4() { 24 } else { 64 };
            let mut request = netlink.address().add(index, address, length);
            // Nobody else is on the link, and a test should not wait for the kernel to find that out.
            request.message_mut().header.flags |= AddressHeaderFlags::Nodad;
            request.execute().await?;
        }
        for gateway in gateways.into_iter().flatten().filter(usable) {
            let route = match gateway {
                IpAddr::V4(gateway) => RouteMessageBuilder::<Ipv4Addr>::new().gateway(gateway).build(),
                IpAddr::V6(gateway) => RouteMessageBuilder::<Ipv6Addr>::new().gateway(gateway).build(),
            };
            netlink.route().add(route).execute().await?;
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream, UdpSocket};

    use super::*;

    #[test]
    fn a_host_and_its_outside_reach_each_other_and_share_nothing_with_this_machine() {
        crate::need!(crate::skip::root());
        let host = Host::new().expect("a namespace");
        let outside = host.join_outside().expect("a veth");
        let listener = host.within(|| TcpListener::bind((HOST[0], 80))).expect("a port of its own");
        let mut client = outside.within(|| TcpStream::connect((HOST[0], 80))).expect("a way in");
        client.write_all(b"x").expect("a connection");
        let (mut served, from) = listener.accept().expect("a connection");
        assert_eq!(from.ip(), OUTSIDE[0]);
        served.read_exact(&mut [0]).expect("what was sent");
        let lo = host.within(|| TcpStream::connect(("127.0.0.1", 80)));
        assert_eq!(lo.expect_err("bound elsewhere").kind(), io::ErrorKind::ConnectionRefused);
        // The default route, v6 if there is any.
        host.within(|| UdpSocket::bind("0.0.0.0:0").and_then(|socket| socket.connect("198.51.100.1:9")))
            .expect("a route");
        if Path::new("/proc/net/if_inet6").exists() {
            let connect = || UdpSocket::bind("[::]:0").and_then(|socket| socket.connect("[2001:db8:1::1]:9"));
            host.within(connect).expect("a route");
        }
        let mut command = Command::new("readlink");
        command.arg("/proc/self/ns/net");
        host.run(command).exits(0).says(&host.inode().to_string());
        assert_ne!(host.inode(), Host::machine().inode());
    }
}
