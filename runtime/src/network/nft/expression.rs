//! Rules as nf_tables takes them: a few instructions each, on sixteen 32-bit registers.

use netlink_packet_core::DefaultNla;
use netlink_packet_netfilter::nftables::{
    Bitwise, Cmp, DataAttribute, ExpressionAttribute, Expressions, Immediate, ListAttribute, Lookup, Meta, MetaKey,
    Operator, Payload, Register, Verdict, VerdictAttribute,
};

/// An address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    V4,
    V6,
}

/// A field of an IP header.
#[derive(Clone, Copy)]
pub enum Field {
    Source,
    Destination,
}

/// linux/netfilter.h, NF_DROP and NF_ACCEPT.
const DROP: Verdict = Verdict::Other(0);
const ACCEPT: Verdict = Verdict::Other(1);

/// linux/netfilter/nf_tables.h, NFT_PAYLOAD_*_HEADER.
const LINK_HEADER: u32 = 0;
const NETWORK_HEADER: u32 = 1;
pub(super) const TRANSPORT_HEADER: u32 = 2;

// The same header's NFT_CT_STATE, and the bits of its values.
const NFT_CT_STATE: u32 = 0;
const ESTABLISHED: u32 = 1 << 1;
const RELATED: u32 = 1 << 2;

/// A rule in the making. Each step is what `nft` calls by the same name.
#[derive(Clone, Default)]
pub struct Rule(Vec<ListAttribute<ExpressionAttribute>>);

/// A 32-bit register; an address of IPv6 or a name of an interface takes four.
pub(super) fn register(number: u32) -> Register {
    Register::from(8 + number)
}

/// What a jump or a verdict map's element leads to.
pub fn verdict(code: Verdict, chain: Option<&str>) -> DataAttribute {
    let chain = chain.map(|it| VerdictAttribute::Chain(it.to_owned()));
    DataAttribute::Verdict([VerdictAttribute::Code(code)].into_iter().chain(chain).collect())
}

/// The name of an interface as the kernel compares it.
pub fn interface_key(name: &str) -> Vec<u8> {
    let mut key = name.as_bytes().to_vec();
    key.resize(16, 0);
    key
}

impl Rule {
    /// A rule that takes every packet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Its instructions.
    pub fn into_expressions(self) -> Vec<ListAttribute<ExpressionAttribute>> {
        self.0
    }

    pub(super) fn step(mut self, expression: Expressions) -> Self {
        self.0.push(expression.into());
        self
    }

    /// An instruction that the library has no type for.
    pub(super) fn other(self, name: &str, attributes: Vec<DefaultNla>) -> Self {
        self.step(Expressions::Other { expression_type: name.to_owned(), attributes })
    }

    pub(super) fn load_meta(self, key: MetaKey, to: u32) -> Self {
        self.step(Expressions::Meta(vec![Meta::DestinationRegister(register(to)), Meta::Key(key)]))
    }

    pub(super) fn load(self, base: u32, offset: u32, length: u32, to: u32) -> Self {
        self.step(Expressions::Payload(vec![
            Payload::DestinationRegister(register(to)),
            Payload::Base(base),
            Payload::Offset(offset),
            Payload::Len(length),
        ]))
    }

    pub(super) fn compare(self, operator: Operator, data: &[u8]) -> Self {
        let data = DataAttribute::Value(data.to_vec());
        self.step(Expressions::Cmp(vec![Cmp::SourceRegister(register(0)), Cmp::Op(operator), Cmp::Data(data)]))
    }

    fn mask(self, mask: &[u8]) -> Self {
        self.bits(mask, &vec![0; mask.len()])
    }

    /// The value and `mask`, then those bits of `flip` the other way round.
    pub(super) fn bits(self, mask: &[u8], flip: &[u8]) -> Self {
        self.step(Expressions::Bitwise(vec![
            Bitwise::SourceRegister(register(0)),
            Bitwise::DestinationRegister(register(0)),
            Bitwise::Length(mask.len() as u32),
            Bitwise::Mask(DataAttribute::Value(mask.to_vec())),
            Bitwise::Xor(DataAttribute::Value(flip.to_vec())),
        ]))
    }

    pub(super) fn lookup(self, set: &str, inverted: bool) -> Self {
        const NFT_LOOKUP_F_INV: u32 = 1;
        let mut lookup = vec![Lookup::Set(set.to_owned()), Lookup::SourceRegister(register(0))];
        if inverted {
            lookup.push(Lookup::Flags(NFT_LOOKUP_F_INV));
        }
        self.step(Expressions::Lookup(lookup))
    }

    pub(super) fn map(self, set: &str, to: Register) -> Self {
        let source = Lookup::SourceRegister(register(0));
        self.step(Expressions::Lookup(vec![Lookup::Set(set.to_owned()), source, Lookup::DestinationRegister(to)]))
    }

    pub(super) fn family(self, family: Family) -> Self {
        let number = match family {
            Family::V4 => libc::NFPROTO_IPV4,
            Family::V6 => libc::NFPROTO_IPV6,
        };
        self.load_meta(MetaKey::Nfproto, 0).compare(Operator::Equal, &[number as u8])
    }

    pub(super) fn load_address(self, family: Family, field: Field, to: u32) -> Self {
        match (family, field) {
            (Family::V4, Field::Source) => self.load(NETWORK_HEADER, 12, 4, to),
            (Family::V4, Field::Destination) => self.load(NETWORK_HEADER, 16, 4, to),
            (Family::V6, Field::Source) => self.load(NETWORK_HEADER, 8, 16, to),
            (Family::V6, Field::Destination) => self.load(NETWORK_HEADER, 24, 16, to),
        }
    }

    /// `iifname NAME`, or every name that begins so when it ends in `*`.
    pub fn iifname(self, name: &str) -> Self {
        self.load_meta(MetaKey::Iifname, 0).name(name)
    }

    /// `iifgroup NUMBER`.
    pub fn iifgroup(self, number: u32) -> Self {
        self.load_meta(MetaKey::Iifgroup, 0).compare(Operator::Equal, &number.to_ne_bytes())
    }

    /// `oifname NAME`.
    pub fn oifname(self, name: &str) -> Self {
        self.load_meta(MetaKey::Oifname, 0).name(name)
    }

    fn name(self, name: &str) -> Self {
        match name.strip_suffix('*') {
            Some(prefix) => self.compare(Operator::Equal, prefix.as_bytes()),
            None => self.compare(Operator::Equal, &interface_key(name)),
        }
    }

    /// `iifname @SET`.
    pub fn iifname_in(self, set: &str) -> Self {
        self.load_meta(MetaKey::Iifname, 0).lookup(set, false)
    }

    /// `iifname . ip saddr @SET`.
    pub fn iifname_source_in(self, family: Family, set: &str) -> Self {
        let loaded = self.family(family).load_meta(MetaKey::Iifname, 0);
        loaded.load_address(family, Field::Source, 4).lookup(set, false)
    }

    /// `ether type NUMBER`.
    pub fn ethernet_protocol(self, number: u16) -> Self {
        self.load_meta(MetaKey::EtherTypeProtocol, 0).compare(Operator::Equal, &number.to_be_bytes())
    }

    /// `iifname . ether saddr . ip saddr @SET`, in the family `bridge`.
    pub fn port_sender_in(self, family: Family, set: &str) -> Self {
        const ETH_P_IP: u16 = 0x0800;
        const ETH_P_IPV6: u16 = 0x86dd;
        let protocol = match family {
            Family::V4 => ETH_P_IP,
            Family::V6 => ETH_P_IPV6,
        };
        let loaded = self.ethernet_protocol(protocol).load_meta(MetaKey::Iifname, 0).load(LINK_HEADER, 6, 6, 4);
        loaded.load_address(family, Field::Source, 6).lookup(set, false)
    }

    /// `ip saddr @SET`.
    pub fn address_in(self, family: Family, field: Field, set: &str) -> Self {
        self.family(family).load_address(family, field, 0).lookup(set, false)
    }

    /// `ip daddr != @SET`.
    pub fn address_not_in(self, family: Family, field: Field, set: &str) -> Self {
        self.family(family).load_address(family, field, 0).lookup(set, true)
    }

    /// `ip saddr 127.0.0.0/8`.
    pub fn loopback_v4(self, field: Field) -> Self {
        let offset = match field {
            Field::Source => 12,
            Field::Destination => 16,
        };
        self.family(Family::V4).load(NETWORK_HEADER, offset, 1, 0).compare(Operator::Equal, &[127])
    }

    /// `ip6 saddr ADDRESS`.
    pub fn address_v6(self, field: Field, address: std::net::Ipv6Addr) -> Self {
        let loaded = self.family(Family::V6).load_address(Family::V6, field, 0);
        loaded.compare(Operator::Equal, &address.octets())
    }

    /// `ip6 saddr fe80::/10`.
    pub fn link_local_v6(self, field: Field) -> Self {
        let loaded = self.family(Family::V6).load_address(Family::V6, field, 0);
        let wide = |first: [u8; 2]| {
            let mut bytes = [0; 16];
            bytes[..2].copy_from_slice(&first);
            bytes
        };
        loaded.mask(&wide([0xff, 0xc0])).compare(Operator::Equal, &wide([0xfe, 0x80]))
    }

    /// `meta l4proto NUMBER`.
    pub fn protocol(self, number: u8) -> Self {
        self.load_meta(MetaKey::L4Proto, 0).compare(Operator::Equal, &[number])
    }

    /// `meta l4proto PROTOCOL th dport PORT`.
    pub fn destination_port(self, protocol: u8, port: u16) -> Self {
        self.protocol(protocol).load(TRANSPORT_HEADER, 2, 2, 0).compare(Operator::Equal, &port.to_be_bytes())
    }

    fn load_icmp_type(self, family: Family) -> Self {
        let number = match family {
            Family::V4 => libc::IPPROTO_ICMP,
            Family::V6 => libc::IPPROTO_ICMPV6,
        };
        self.family(family).protocol(number as u8).load(TRANSPORT_HEADER, 0, 1, 0)
    }

    /// `icmp type NUMBER`.
    pub fn icmp_type(self, family: Family, number: u8) -> Self {
        self.load_icmp_type(family).compare(Operator::Equal, &[number])
    }

    /// `icmpv6 type @SET`.
    pub fn icmpv6_type_in(self, set: &str) -> Self {
        self.load_icmp_type(Family::V6).lookup(set, false)
    }

    /// Bits of a number of the connection's, of which one has to be set.
    pub(super) fn connection(self, key: u32, bits: u32) -> Self {
        const NFTA_CT_DREG: u16 = 1;
        const NFTA_CT_KEY: u16 = 2;
        self.other("ct", vec![number(NFTA_CT_DREG, register(0).into()), number(NFTA_CT_KEY, key)])
            .mask(&bits.to_ne_bytes())
            .compare(Operator::NotEqual, &[0; 4])
    }

    /// `ct state established,related`.
    pub fn established_or_related(self) -> Self {
        self.connection(NFT_CT_STATE, ESTABLISHED | RELATED)
    }

    /// `ct state related`: an error about a connection, mostly.
    pub fn related(self) -> Self {
        self.connection(NFT_CT_STATE, RELATED)
    }

    /// `ct direction reply`.
    pub fn reply(self) -> Self {
        const NFTA_CT_DREG: u16 = 1;
        const NFTA_CT_KEY: u16 = 2;
        const NFT_CT_DIRECTION: u32 = 1;
        const REPLY: u8 = 1;
        self.other("ct", vec![number(NFTA_CT_DREG, register(0).into()), number(NFTA_CT_KEY, NFT_CT_DIRECTION)])
            .compare(Operator::Equal, &[REPLY])
    }

    /// `fib daddr type local`.
    pub fn for_this_host(self) -> Self {
        const NFTA_FIB_DREG: u16 = 1;
        const NFTA_FIB_RESULT: u16 = 2;
        const NFTA_FIB_FLAGS: u16 = 3;
        const NFT_FIB_RESULT_ADDRTYPE: u32 = 3;
        const NFTA_FIB_F_DADDR: u32 = 2;
        const RTN_LOCAL: u32 = 2;
        let fib = vec![
            number(NFTA_FIB_DREG, register(0).into()),
            number(NFTA_FIB_RESULT, NFT_FIB_RESULT_ADDRTYPE),
            number(NFTA_FIB_FLAGS, NFTA_FIB_F_DADDR),
        ];
        self.other("fib", fib).compare(Operator::Equal, &RTN_LOCAL.to_ne_bytes())
    }

    /// `counter`.
    pub fn count(self) -> Self {
        self.other("counter", Vec::new())
    }

    fn verdict(self, code: Verdict, chain: Option<&str>) -> Self {
        let data = Immediate::Data(verdict(code, chain));
        self.step(Expressions::Immediate(vec![Immediate::DestinationRegister(Register::Verdict), data]))
    }

    /// `accept`.
    pub fn accept(self) -> Self {
        self.verdict(ACCEPT, None)
    }

    /// `drop`.
    pub fn drop(self) -> Self {
        self.verdict(DROP, None)
    }

    /// `return`.
    pub fn back(self) -> Self {
        self.verdict(Verdict::Return, None)
    }

    /// `jump CHAIN`.
    pub fn jump(self, chain: &str) -> Self {
        self.verdict(Verdict::Jump, Some(chain))
    }

    /// `goto CHAIN`.
    pub fn goto(self, chain: &str) -> Self {
        self.verdict(Verdict::Goto, Some(chain))
    }

    /// `reject with tcp reset`.
    pub fn reset(self) -> Self {
        const NFT_REJECT_TCP_RST: u32 = 1;
        self.reject(NFT_REJECT_TCP_RST, 0)
    }

    /// `reject with icmpx port-unreachable`.
    pub fn unreachable(self) -> Self {
        const NFT_REJECT_ICMPX_UNREACH: u32 = 2;
        const NFT_REJECT_ICMPX_PORT_UNREACH: u8 = 1;
        self.reject(NFT_REJECT_ICMPX_UNREACH, NFT_REJECT_ICMPX_PORT_UNREACH)
    }

    fn reject(self, kind: u32, code: u8) -> Self {
        const NFTA_REJECT_TYPE: u16 = 1;
        const NFTA_REJECT_ICMP_CODE: u16 = 2;
        let code = DefaultNla::new(NFTA_REJECT_ICMP_CODE, vec![code]);
        self.other("reject", vec![number(NFTA_REJECT_TYPE, kind), code])
    }

    /// `masquerade`.
    pub fn masquerade(self) -> Self {
        self.other("masq", Vec::new())
    }

    /// `masquerade fully-random`: two pods that ask the same server from the same port at once do not race for it.
    pub fn masquerade_random(self) -> Self {
        const NFTA_MASQ_FLAGS: u16 = 1;
        const NF_NAT_RANGE_PROTO_RANDOM_FULLY: u32 = 16;
        self.other("masq", vec![number(NFTA_MASQ_FLAGS, NF_NAT_RANGE_PROTO_RANDOM_FULLY)])
    }
}

pub(super) fn number(kind: u16, value: u32) -> DefaultNla {
    DefaultNla::new(kind, value.to_be_bytes().to_vec())
}
