//! Names to addresses: /etc/hosts, then the servers of /etc/resolv.conf.
//!
//! The C library's resolver loads plug-ins at run time, which a static binary in an image of one file does not have.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use super::dns::{self, Answer, Kind};

/// One server's share of the time, before the next is asked.
const PATIENCE: Duration = Duration::from_millis(1500);

/// The addresses of a name, in the order to try them.
pub fn lookup(name: &str, deadline: Instant) -> Result<Vec<IpAddr>, String> {
    if let Ok(address) = name.parse() {
        return Ok(vec![address]);
    }
    let hosts = std::fs::read_to_string("/etc/hosts").unwrap_or_default();
    let known = in_hosts(&hosts, name);
    if !known.is_empty() {
        return Ok(known);
    }
    if name == "localhost" {
        return Ok(vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]);
    }
    let text = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    Resolver::parse(&text).lookup(name, deadline)
}

/// The addresses that a hosts file gives a name.
pub fn in_hosts(text: &str, name: &str) -> Vec<IpAddr> {
    let name = name.trim_end_matches('.');
    let mut found = Vec::new();
    for line in text.lines() {
        let mut words = line.split('#').next().unwrap_or_default().split_whitespace();
        let address = words.next().and_then(|word| word.parse().ok());
        if let Some(address) = address
            && words.any(|word| word.eq_ignore_ascii_case(name))
        {
            found.push(address);
        }
    }
    found
}

/// What resolv.conf asks for.
#[derive(Debug, PartialEq)]
pub struct Resolver {
    /// The servers to ask, in order.
    pub servers: Vec<IpAddr>,
    search: Vec<String>,
    ndots: usize,
}

impl Resolver {
    /// Reads resolv.conf.
    pub fn parse(text: &str) -> Self {
        let mut it = Self { servers: Vec::new(), search: Vec::new(), ndots: 1 };
        for line in text.lines() {
            let mut words = line.split_whitespace();
            match words.next() {
                Some("nameserver") => it.servers.extend(words.next().and_then(|word| word.parse::<IpAddr>().ok())),
                // The last of several lines counts.
                Some("search" | "domain") => it.search = words.map(str::to_owned).collect(),
                Some("options") => {
                    let ndots = words.find_map(|word| word.strip_prefix("ndots:")?.parse().ok());
                    it.ndots = ndots.unwrap_or(it.ndots);
                }
                _ => {}
            }
        }
        it.servers.truncate(3);
        if it.servers.is_empty() {
            it.servers.push(Ipv4Addr::LOCALHOST.into());
        }
        it
    }

    /// The full names to ask for, in order.
    pub fn candidates(&self, name: &str) -> Vec<String> {
        if name.ends_with('.') {
            return vec![name.to_owned()];
        }
        let mut names: Vec<_> =
            self.search.iter().map(|domain| format!("{name}.{}", domain.trim_matches('.'))).collect();
        let dots = name.matches('.').count();
        let at = if dots >= self.ndots { 0 } else { names.len() };
        names.insert(at, name.to_owned());
        names
    }

    fn lookup(&self, name: &str, deadline: Instant) -> Result<Vec<IpAddr>, String> {
        let mut trouble = None;
        for candidate in self.candidates(name) {
            let mut found = Vec::new();
            for kind in [Kind::A, Kind::Aaaa] {
                match self.ask(&candidate, kind, deadline) {
                    Ok(addresses) => found.extend(addresses),
                    Err(why) => trouble = Some(why),
                }
            }
            if !found.is_empty() {
                return Ok(found);
            }
        }
        let servers: Vec<_> = self.servers.iter().map(ToString::to_string).collect();
        let why = trouble.unwrap_or_else(|| format!("neither /etc/hosts nor {} knows it", servers.join(", ")));
        Err(format!("cannot resolve {name}: {why}"))
    }

    /// Asks each server until one answers.
    fn ask(&self, name: &str, kind: Kind, deadline: Instant) -> Result<Vec<IpAddr>, String> {
        let id = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), name) as u16;
        let Some(question) = dns::question(id, name, kind) else {
            return Err(format!("{name} is not a host name"));
        };
        let mut trouble = String::new();
        for server in &self.servers {
            match query(SocketAddr::new(*server, 53), &question, deadline) {
                Ok(Answer::Addresses { addresses, .. }) => return Ok(addresses),
                Ok(Answer::NoSuchName) => return Ok(Vec::new()),
                Ok(Answer::Failed(code)) => trouble = format!("name server {server} answers with error {code}"),
                Err(error) => trouble = format!("name server {server}: {error}"),
            }
        }
        Err(trouble)
    }
}

fn query(server: SocketAddr, question: &[u8], deadline: Instant) -> io::Result<Answer> {
    let any: IpAddr = if server.is_ipv6() { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(server)?;
    socket.send(question)?;
    let until = deadline.min(Instant::now() + PATIENCE);
    let mut message = [0; 4096];
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "no answer in time"));
        }
        socket.set_read_timeout(Some(left))?;
        match socket.recv(&mut message) {
            // Anything else that arrives is somebody's forgery or an answer come late.
            Ok(length) => match dns::answer(&message[..length], question) {
                Some(answer) => return Ok(answer),
                None => continue,
            },
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_matched_by_any_alias_whatever_the_case() {
        let text = "127.0.0.1 localhost\n# 10.0.0.9 db\n10.0.0.1\tDB db.default # the database\n::1 db\n";
        assert_eq!(in_hosts(text, "db"), [IpAddr::from([10, 0, 0, 1]), Ipv6Addr::LOCALHOST.into()]);
        assert_eq!(in_hosts(text, "database"), [] as [IpAddr; 0]);
    }

    #[test]
    fn resolv_conf_is_read_as_the_c_library_reads_it() {
        let text = "search old\nnameserver 10.0.0.1\nnameserver fe80::1%eth0\nnameserver fd00::1\nsearch a.b c\noptions rotate ndots:5\n";
        let resolver = Resolver::parse(text);
        assert_eq!(resolver.servers, [IpAddr::from([10, 0, 0, 1]), "fd00::1".parse().unwrap_or(resolver.servers[0])]);
        assert_eq!((resolver.search, resolver.ndots), (vec!["a.b".into(), "c".into()], 5));
        assert_eq!(Resolver::parse("").servers, [IpAddr::from([127, 0, 0, 1])]);
    }

    #[test]
    fn the_search_list_comes_first_for_names_with_few_dots() {
        let resolver = Resolver::parse("search ns.svc svc\noptions ndots:2");
        assert_eq!(resolver.candidates("db"), ["db.ns.svc", "db.svc", "db"]);
        assert_eq!(resolver.candidates("a.b.c"), ["a.b.c", "a.b.c.ns.svc", "a.b.c.svc"]);
        assert_eq!(resolver.candidates("db."), ["db."]);
    }
}
