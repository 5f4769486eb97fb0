//! Records, from what a name leads to.

use std::net::IpAddr;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::rdata::{A, AAAA, SOA, SRV};
use hickory_proto::rr::{Name, RData, Record, RecordType};

use super::message::{Question, Reply};

/// For how many seconds an answer holds: as in clusters. A pod that comes back keeps its address, others do not.
pub const TTL: u32 = 5;

/// The records of a name that are asked for.
pub fn records(question: &Question, addresses: Vec<IpAddr>, srv: Vec<(u16, String)>, domain: &str) -> Reply {
    let any = question.kind == RecordType::ANY;
    let addresses = addresses
        .into_iter()
        .filter(|it| any || question.kind == if it.is_ipv4() { RecordType::A } else { RecordType::AAAA });
    let mut answers: Vec<Record> = addresses.map(|it| address_record(&question.name, it)).collect();
    if any || question.kind == RecordType::SRV {
        let weight = u16::try_from(100 / srv.len().max(1)).unwrap_or(1).max(1);
        let targets = srv.into_iter().filter_map(|(port, target)| Some((port, full(&target, domain)?)));
        let data = targets.map(|(port, target)| RData::SRV(SRV::new(0, weight, port, target)));
        answers.extend(data.map(|it| Record::from_rdata(question.name.clone(), TTL, it)));
    }
    if answers.is_empty() {
        return nothing(question, domain, ResponseCode::NoError);
    }
    Reply { authoritative: true, answers, ..Reply::default() }
}

/// An address, as a record of a name.
pub fn address_record(name: &Name, address: IpAddr) -> Record {
    let data = match address {
        IpAddr::V4(address) => RData::A(A(address)),
        IpAddr::V6(address) => RData::AAAA(AAAA(address)),
    };
    Record::from_rdata(name.clone(), TTL, data)
}

/// A name of the cluster, whole.
pub fn full(name: &str, domain: &str) -> Option<Name> {
    let mut name = Name::from_ascii(format!("{name}.{domain}")).ok()?;
    name.set_fqdn(true);
    Some(name)
}

/// There is no such name, or nothing of this kind at it; `zone` says for whom that is said.
pub fn nothing(question: &Question, zone: &str, code: ResponseCode) -> Reply {
    let apex = Name::from_ascii(zone).map(|mut it| {
        it.set_fqdn(true);
        it
    });
    let mut reply = Reply { code, authoritative: true, ..Reply::default() };
    let Ok(apex) = apex else { return reply };
    let server = apex.prepend_label("ns").unwrap_or_else(|_| apex.clone());
    let contact = apex.prepend_label("hostmaster").unwrap_or_else(|_| apex.clone());
    let soa = SOA::new(server, contact, 1, 7200, 1800, 86400, TTL);
    let soa = Record::from_rdata(apex.clone(), TTL, RData::SOA(soa));
    if question.kind == RecordType::SOA && code == ResponseCode::NoError && question.name == apex {
        reply.answers.push(soa);
    } else {
        reply.authorities.push(soa);
    }
    reply
}
