//! The names of pods, services and links, and who is asked for them. No I/O.
//!
//! ```text
//! ALIAS                                a link's, for the pod that has it; before all others
//! SERVICE.NAMESPACE.svc                and what else the wanted sets name: `_http._tcp.SERVICE.NAMESPACE.svc`
//! POD, POD.NAMESPACE                   the pod's own name, or its host name
//! HOSTNAME.SUBDOMAIN.NAMESPACE.svc     where a pod has a subdomain
//! 10-201-0-2.NAMESPACE.pod             a pod by its address
//! ```
//!
//! Each is also found with what the search list of a pod's resolv.conf appends: `.NAMESPACE.svc.DOMAIN`, `.svc.DOMAIN`,
//! `.DOMAIN`. Below the cluster's domain nobody else is asked; what is not found without it is.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::rdata::PTR;
use hickory_proto::rr::{RData, Record, RecordType};
use ipnet::IpNet;

use super::answer::{TTL, address_record, full, nothing, records};
use super::message::{Question, Reply};
use super::reverse;

/// The domain where nobody has said another.
pub const DEFAULT_DOMAIN: &str = "cluster.local";

/// A pod that runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pod {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Whose it is.
    pub owner: String,
    /// When it was made: of two of one name the younger is meant.
    pub created_at: i64,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// Its host name, where that is a single label.
    pub hostname: Option<String>,
    /// `HOSTNAME.SUBDOMAIN`.
    pub fqdn: Option<String>,
    /// The cluster's domain as it knows it.
    pub domain: Option<String>,
}

/// What a name leads to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// These pods, by namespace and name.
    pub pods: Vec<(String, String)>,
    /// These addresses.
    pub addresses: Vec<IpAddr>,
    /// Port and name.
    pub srv: Vec<(u16, String)>,
}

impl Entry {
    fn add(&mut self, other: Self) {
        self.pods.extend(other.pods.into_iter().filter(|it| !self.pods.contains(it)).collect::<Vec<_>>());
        self.addresses
            .extend(other.addresses.into_iter().filter(|it| !self.addresses.contains(it)).collect::<Vec<_>>());
        self.srv.extend(other.srv.into_iter().filter(|it| !self.srv.contains(it)).collect::<Vec<_>>());
    }
}

/// A name besides those that pods have by themselves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Given {
    /// Whose set it is from.
    pub owner: String,
    /// The name, without the cluster's domain.
    pub name: String,
    /// The pod of that owner that alone sees it, by namespace and name; none is everybody.
    pub asker: Option<(String, String)>,
    /// What it leads to.
    pub entry: Entry,
}

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asker<'a> {
    /// A pod.
    Pod(&'a Pod),
    /// The node itself, and pods on its network.
    Node,
}

/// What there is to an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// The answer.
    Here(Reply),
    /// Others have to be asked.
    Elsewhere,
}

/// How well a pod's name fits: its own before its host name before its full name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Own,
    Host,
    Full,
}

/// Where a name leads: addresses, and ports at other names.
type Leads = (Vec<IpAddr>, Vec<(u16, String)>);

/// All names at one time.
#[derive(Debug, Default)]
pub struct Zone {
    pods: Vec<Pod>,
    by_address: HashMap<IpAddr, usize>,
    /// `NAME.NAMESPACE`.
    by_name: HashMap<String, Vec<(Rank, usize)>>,
    /// Names that everybody sees, and whose they are.
    shared: HashMap<String, Vec<(String, Entry)>>,
    /// Of the pod.
    aliases: HashMap<usize, HashMap<String, Entry>>,
    /// Names below which there are others.
    above: HashSet<String>,
    /// Names of addresses that are no pod's.
    reverse: HashMap<IpAddr, Vec<String>>,
    domains: Vec<String>,
    ranges: Vec<IpNet>,
}

impl Zone {
    /// The names of these pods and sets; addresses in `ranges` belong to nobody else.
    pub fn new(pods: Vec<Pod>, given: Vec<Given>, ranges: Vec<IpNet>) -> Self {
        let mut zone = Self { ranges, domains: vec![DEFAULT_DOMAIN.to_owned()], ..Self::default() };
        for (index, pod) in pods.iter().enumerate() {
            zone.add_pod(index, pod);
        }
        zone.pods = pods;
        for it in given {
            zone.give(it);
        }
        let names = zone.shared.keys().cloned();
        let pods = zone.by_name.keys().flat_map(|name| [format!("{name}.svc"), format!("{name}.pod")]);
        for name in names.chain(pods).collect::<Vec<_>>() {
            zone.above.extend(name.match_indices('.').map(|(dot, _)| name[dot + 1..].to_owned()));
        }
        // Domain itself.
        zone.above.insert(String::new());
        zone
    }

    fn add_pod(&mut self, index: usize, pod: &Pod) {
        for address in &pod.addresses {
            self.by_address.insert(*address, index);
        }
        let names =
            [(Rank::Own, Some(&pod.name)), (Rank::Host, pod.hostname.as_ref()), (Rank::Full, pod.fqdn.as_ref())];
        for (rank, name) in names {
            let Some(name) = name else { continue };
            let key = format!("{name}.{}", pod.namespace).to_ascii_lowercase();
            self.by_name.entry(key).or_default().push((rank, index));
        }
        if let Some(domain) = &pod.domain
            && !self.domains.contains(domain)
        {
            self.domains.push(domain.clone());
        }
    }

    fn give(&mut self, given: Given) {
        let Given { owner, name, asker, entry } = given;
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        let Some((namespace, pod)) = asker else {
            for address in &entry.addresses {
                let names = self.reverse.entry(*address).or_default();
                if !name.starts_with('_') && !names.contains(&name) {
                    names.push(name.clone());
                }
            }
            // Said twice by one owner it leads to both.
            let entries = self.shared.entry(name).or_default();
            match entries.iter_mut().find(|(other, _)| *other == owner) {
                Some((_, before)) => before.add(entry),
                None => entries.push((owner, entry)),
            }
            return;
        };
        let asks = |it: &&Pod| it.owner == owner && it.namespace == namespace && it.name == pod;
        let indexes: Vec<usize> =
            self.pods.iter().enumerate().filter(|(_, it)| asks(it)).map(|(index, _)| index).collect();
        for index in indexes {
            self.aliases.entry(index).or_default().insert(name.clone(), entry.clone());
        }
    }

    /// The pod with an address.
    pub fn pod_at(&self, address: IpAddr) -> Option<&Pod> {
        self.by_address.get(&address).map(|index| &self.pods[*index])
    }

    /// What this pod, or the node, is answered. `turn` says with which of several addresses to begin.
    pub fn lookup(&self, question: &Question, asker: Asker<'_>, turn: usize) -> Found {
        let Some(text) = question.text.as_deref() else { return Found::Elsewhere };
        if text == "localhost" || text.ends_with(".localhost") {
            let loopback = [IpAddr::from([127, 0, 0, 1]), std::net::Ipv6Addr::LOCALHOST.into()];
            return Found::Here(records(question, loopback.to_vec(), Vec::new(), text));
        }
        if let Some(asked) = reverse::parse(text) {
            return self.reverse(question, asked, asker);
        }
        let (name, domain) = self.split(text, asker);
        if let Some((addresses, srv)) = self.find(name, asker) {
            let domain = domain.unwrap_or_else(|| self.domain_of(asker));
            return Found::Here(self.turned(question, addresses, srv, domain, turn, asker));
        }
        match domain {
            // Others know nothing of it.
            Some(domain) if self.above.contains(name) => Found::Here(nothing(question, domain, ResponseCode::NoError)),
            Some(domain) => Found::Here(nothing(question, domain, ResponseCode::NXDomain)),
            None => Found::Elsewhere,
        }
    }

    /// A name without the cluster's domain, and which one that is, if it has any.
    fn split<'a>(&'a self, text: &'a str, asker: Asker<'a>) -> (&'a str, Option<&'a str>) {
        let known = match asker {
            Asker::Pod(Pod { domain: Some(domain), .. }) => std::slice::from_ref(domain),
            _ => &self.domains[..],
        };
        for domain in known {
            if text == domain {
                return ("", Some(domain));
            }
            if let Some(name) = text.strip_suffix(domain.as_str()).and_then(|it| it.strip_suffix('.')) {
                return (name, Some(domain));
            }
        }
        (text, None)
    }

    fn domain_of<'a>(&'a self, asker: Asker<'a>) -> &'a str {
        match asker {
            Asker::Pod(pod) => pod.domain.as_deref().unwrap_or(DEFAULT_DOMAIN),
            Asker::Node => DEFAULT_DOMAIN,
        }
    }

    /// What a name without the cluster's domain leads to.
    fn find(&self, name: &str, asker: Asker<'_>) -> Option<Leads> {
        let entry = self.alias(name, asker).or_else(|| self.shared_entry(name, asker));
        if let Some(entry) = entry {
            return Some((self.addresses(entry, asker), entry.srv.clone()));
        }
        let pod = self.pod_called(name, asker)?;
        Some((pod.addresses.clone(), Vec::new()))
    }

    fn alias(&self, name: &str, asker: Asker<'_>) -> Option<&Entry> {
        let Asker::Pod(pod) = asker else { return None };
        let aliases = self.aliases.get(self.by_address.get(pod.addresses.first()?)?)?;
        // What the search list has appended.
        let bare = name.strip_suffix(".svc");
        let own = bare.and_then(|it| it.strip_suffix(pod.namespace.as_str())).and_then(|it| it.strip_suffix('.'));
        [Some(name), bare, own].into_iter().flatten().find_map(|it| aliases.get(it))
    }

    fn shared_entry(&self, name: &str, asker: Asker<'_>) -> Option<&Entry> {
        let mut forms = vec![name.to_owned()];
        if !name.ends_with(".svc") {
            forms.push(format!("{name}.svc"));
            if let Asker::Pod(pod) = asker {
                forms.push(format!("{name}.{}.svc", pod.namespace));
            }
        }
        let entries = forms.iter().find_map(|it| self.shared.get(it))?;
        let own = |(owner, _): &&(String, Entry)| matches!(asker, Asker::Pod(pod) if pod.owner == *owner);
        entries.iter().find(own).or_else(|| entries.first()).map(|(_, entry)| entry)
    }

    fn pod_called(&self, name: &str, asker: Asker<'_>) -> Option<&Pod> {
        let bare = name.strip_suffix(".svc").or_else(|| name.strip_suffix(".pod"));
        let mut forms = vec![bare.unwrap_or(name).to_owned()];
        if let (None, Asker::Pod(pod)) = (bare, asker) {
            forms.push(format!("{name}.{}", pod.namespace));
        }
        if let Some(pods) = forms.iter().find_map(|it| self.by_name.get(it)) {
            return self.preferred(pods.iter().copied(), asker);
        }
        // A pod by its address.
        let (dashed, namespace) = name.strip_suffix(".pod")?.split_once('.')?;
        let address = dashed.replace('-', ".").parse().or_else(|_| dashed.replace('-', ":").parse()).ok()?;
        self.pod_at(address).filter(|it| it.namespace == namespace)
    }

    /// Of several pods of one name: the asker's owner's, then the youngest.
    fn preferred(&self, pods: impl Iterator<Item = (Rank, usize)>, asker: Asker<'_>) -> Option<&Pod> {
        let own = |it: &Pod| matches!(asker, Asker::Pod(pod) if pod.owner == it.owner);
        let pods = pods.map(|(rank, index)| (rank, &self.pods[index]));
        let best = pods.min_by_key(|(rank, it)| (*rank, !own(it), std::cmp::Reverse(it.created_at)));
        best.map(|(_, pod)| pod)
    }

    fn addresses(&self, entry: &Entry, asker: Asker<'_>) -> Vec<IpAddr> {
        let mut addresses = entry.addresses.clone();
        for (namespace, name) in &entry.pods {
            let key = format!("{name}.{namespace}");
            let pods = self.by_name.get(&key).into_iter().flatten().copied();
            let pods = pods.filter(|(rank, _)| *rank == Rank::Own);
            addresses.extend(self.preferred(pods, asker).iter().flat_map(|it| &it.addresses));
        }
        addresses
    }

    /// The records that are asked for, beginning with another one each time, and the addresses of those that they name.
    fn turned(
        &self,
        question: &Question,
        mut addresses: Vec<IpAddr>,
        srv: Vec<(u16, String)>,
        domain: &str,
        turn: usize,
        asker: Asker<'_>,
    ) -> Reply {
        if addresses.len() > 2 {
            let turn = turn % addresses.len();
            addresses.rotate_left(turn);
        }
        let mut reply = records(question, addresses, srv, domain);
        for record in &reply.answers {
            let RData::SRV(srv) = &record.data else { continue };
            let target = srv.target.to_lowercase().to_ascii();
            let name = target.trim_end_matches('.').strip_suffix(domain).and_then(|it| it.strip_suffix('.'));
            let Some((addresses, _)) = name.and_then(|it| self.find(it, asker)) else { continue };
            reply.additionals.extend(addresses.into_iter().map(|it| address_record(&srv.target, it)));
        }
        reply
    }

    /// Which names an address has.
    fn reverse(&self, question: &Question, asked: reverse::Asked, asker: Asker<'_>) -> Found {
        let zone = || question.text.clone().unwrap_or_default();
        let ours = |range: IpNet| self.ranges.iter().any(|it| it.contains(&range));
        let reverse::Asked::Address(address) = asked else {
            let reverse::Asked::Range(range) = asked else { return Found::Elsewhere };
            let code = ResponseCode::NoError;
            return if ours(range) { Found::Here(nothing(question, &zone(), code)) } else { Found::Elsewhere };
        };
        let mut names = self.reverse.get(&address).cloned().unwrap_or_default();
        if let Some(pod) = self.pod_at(address) {
            names.push(match &pod.fqdn {
                Some(fqdn) => format!("{fqdn}.{}.svc", pod.namespace),
                None => format!("{}.{}.pod", pod.name, pod.namespace),
            });
        }
        if names.is_empty() {
            let code = ResponseCode::NXDomain;
            return if ours(address.into()) { Found::Here(nothing(question, &zone(), code)) } else { Found::Elsewhere };
        }
        if !matches!(question.kind, RecordType::PTR | RecordType::ANY) {
            return Found::Here(nothing(question, &zone(), ResponseCode::NoError));
        }
        let domain = self.domain_of(asker);
        let names = names.iter().filter_map(|it| full(it, domain)).map(|it| RData::PTR(PTR(it)));
        let answers = names.map(|it| Record::from_rdata(question.name.clone(), TTL, it)).collect();
        Found::Here(Reply { authoritative: true, answers, ..Reply::default() })
    }
}

#[cfg(test)]
#[path = "zone_tests.rs"]
mod tests;
