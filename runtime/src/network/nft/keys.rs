//! Rules that look several fields up at once, and what they do with what they find.

use netlink_packet_netfilter::nftables::{Meta, MetaKey, Operator, Register};

use super::expression::{Family, Field, Rule, TRANSPORT_HEADER, number, register};

/// A part of a key.
#[derive(Clone, Copy)]
pub enum Part {
    /// `ip saddr`
    Source,
    /// `ip daddr`
    Destination,
    /// `meta l4proto`
    Protocol,
    /// `th dport`
    Port,
    /// `ct original ip daddr`: the address that the client asked for.
    AskedAddress,
    /// `ct original proto-dst`: the port that the client asked for.
    Asked,
    /// `numgen random mod NUMBER`: one of as many equal shares.
    Share(u32),
}

/// Where packets go, in the form in which a service's ports are written down.
pub const SERVICE: [Part; 3] = [Part::Destination, Part::Protocol, Part::Port];
/// Who speaks to whom.
pub const PAIR: [Part; 4] = [Part::Source, Part::Destination, Part::Protocol, Part::Port];
/// The same from the other end.
pub const RIAP: [Part; 4] = [Part::Destination, Part::Source, Part::Protocol, Part::Port];
/// What a client asked for, at whichever address, and where it was led to.
pub const LED: [Part; 4] = [Part::Protocol, Part::Asked, Part::Destination, Part::Port];
/// The same at one address.
pub const LED_AT: [Part; 5] = [Part::AskedAddress, Part::Protocol, Part::Asked, Part::Destination, Part::Port];

// linux/netfilter/nf_tables.h.
const NFT_CT_PROTO_DST: u32 = 12;
const NFT_CT_DST_IP: u32 = 20;
const NFT_CT_DST_IP6: u32 = 22;

/// The key of the address that a client asked for.
fn asked_address(family: Family) -> u32 {
    match family {
        Family::V4 => NFT_CT_DST_IP,
        Family::V6 => NFT_CT_DST_IP6,
    }
}

/// Registers that an address takes.
fn width(family: Family) -> u32 {
    match family {
        Family::V4 => 1,
        Family::V6 => 4,
    }
}

impl Rule {
    /// Loads the parts of a key one behind the other; the first register behind them.
    fn key(self, family: Family, parts: &[Part]) -> (Self, u32) {
        let mut next = 0;
        let mut rule = self.family(family);
        for part in parts {
            let (loaded, registers) = match part {
                Part::Source => (rule.load_address(family, Field::Source, next), width(family)),
                Part::Destination => (rule.load_address(family, Field::Destination, next), width(family)),
                Part::Protocol => (rule.load_meta(MetaKey::L4Proto, next), 1),
                Part::Port => (rule.load(TRANSPORT_HEADER, 2, 2, next), 1),
                Part::AskedAddress => (rule.asked(asked_address(family), next), width(family)),
                Part::Asked => (rule.asked(NFT_CT_PROTO_DST, next), 1),
                Part::Share(shares) => (rule.share(*shares, next), 1),
            };
            (rule, next) = (loaded, next + registers);
        }
        (rule, next)
    }

    fn share(self, shares: u32, to: u32) -> Self {
        const NFTA_NG_DREG: u16 = 1;
        const NFTA_NG_MODULUS: u16 = 2;
        const NFTA_NG_TYPE: u16 = 3;
        const NFT_NG_RANDOM: u32 = 1;
        self.other(
            "numgen",
            vec![
                number(NFTA_NG_DREG, register(to).into()),
                number(NFTA_NG_MODULUS, shares),
                number(NFTA_NG_TYPE, NFT_NG_RANDOM),
            ],
        )
    }

    /// `KEY @SET`.
    pub fn in_set(self, family: Family, parts: &[Part], set: &str) -> Self {
        self.key(family, parts).0.lookup(set, false)
    }

    /// `KEY vmap @MAP`.
    pub fn verdict_of(self, family: Family, parts: &[Part], map: &str) -> Self {
        self.key(family, parts).0.map(map, Register::Verdict)
    }

    /// `dnat ip to KEY map @MAP`, which leads to an address and a port.
    pub fn dnat(self, family: Family, parts: &[Part], map: &str) -> Self {
        const NFTA_NAT_TYPE: u16 = 1;
        const NFTA_NAT_FAMILY: u16 = 2;
        const NFTA_NAT_REG_ADDR_MIN: u16 = 3;
        const NFTA_NAT_REG_PROTO_MIN: u16 = 5;
        const NFT_NAT_DNAT: u32 = 1;
        let nfproto = match family {
            Family::V4 => libc::NFPROTO_IPV4,
            Family::V6 => libc::NFPROTO_IPV6,
        };
        self.key(family, parts).0.map(map, register(0)).other(
            "nat",
            vec![
                number(NFTA_NAT_TYPE, NFT_NAT_DNAT),
                number(NFTA_NAT_FAMILY, nfproto as u32),
                number(NFTA_NAT_REG_ADDR_MIN, register(0).into()),
                number(NFTA_NAT_REG_PROTO_MIN, register(width(family)).into()),
            ],
        )
    }

    /// `update @MAP { KEY : FROM map @SOURCE }`: what `source` leads to is remembered for `seconds` from now on.
    pub fn remember(self, family: Family, key: &[Part], map: &str, from: (&[Part], &str), seconds: u32) -> Self {
        const NFTA_DYNSET_SET_NAME: u16 = 1;
        const NFTA_DYNSET_OP: u16 = 3;
        const NFTA_DYNSET_SREG_KEY: u16 = 4;
        const NFTA_DYNSET_SREG_DATA: u16 = 5;
        const NFTA_DYNSET_TIMEOUT: u16 = 6;
        const NFT_DYNSET_OP_UPDATE: u32 = 1;
        let (rule, _) = self.key(family, from.0);
        // What is found lies behind the room for the key, which is loaded then.
        let behind = 2 * width(family) + 2;
        let rule = rule.map(from.1, register(behind));
        let (rule, _) = rule.key(family, key);
        let text = |kind, text: &str| netlink_packet_core::DefaultNla::new(kind, text.bytes().chain([0]).collect());
        let timeout = u64::from(seconds) * 1000;
        rule.other(
            "dynset",
            vec![
                text(NFTA_DYNSET_SET_NAME, map),
                number(NFTA_DYNSET_OP, NFT_DYNSET_OP_UPDATE),
                number(NFTA_DYNSET_SREG_KEY, register(0).into()),
                number(NFTA_DYNSET_SREG_DATA, register(behind).into()),
                netlink_packet_core::DefaultNla::new(NFTA_DYNSET_TIMEOUT, timeout.to_be_bytes().to_vec()),
            ],
        )
    }

    /// `ct status dnat`.
    pub fn redirected(self) -> Self {
        const NFT_CT_STATUS: u32 = 2;
        const IPS_DST_NAT: u32 = 1 << 5;
        self.connection(NFT_CT_STATUS, IPS_DST_NAT)
    }

    /// `ct original ip daddr != @SET`: whom the client asked for.
    pub fn asked_not_in(self, family: Family, set: &str) -> Self {
        self.family(family).asked(asked_address(family), 0).lookup(set, true)
    }

    /// `ct original KEY`: something of a connection's first packet, as it came.
    fn asked(self, key: u32, to: u32) -> Self {
        const NFTA_CT_DREG: u16 = 1;
        const NFTA_CT_KEY: u16 = 2;
        const NFTA_CT_DIRECTION: u16 = 3;
        // IP_CT_DIR_ORIGINAL.
        let direction = netlink_packet_core::DefaultNla::new(NFTA_CT_DIRECTION, vec![0]);
        self.other("ct", vec![number(NFTA_CT_DREG, register(to).into()), number(NFTA_CT_KEY, key), direction])
    }

    /// `meta mark set meta mark | BIT`, or without it.
    pub fn mark(self, bit: u32, on: bool) -> Self {
        let flip = if on { bit } else { 0 };
        let changed = self.load_meta(MetaKey::Mark, 0).bits(&(!bit).to_ne_bytes(), &flip.to_ne_bytes());
        changed.step(netlink_packet_netfilter::nftables::Expressions::Meta(vec![
            Meta::Key(MetaKey::Mark),
            Meta::SourceRegister(register(0)),
        ]))
    }

    /// `meta mark & BIT == 0`.
    pub fn unmarked(self, bit: u32) -> Self {
        self.load_meta(MetaKey::Mark, 0).bits(&bit.to_ne_bytes(), &[0; 4]).compare(Operator::Equal, &[0; 4])
    }
}
