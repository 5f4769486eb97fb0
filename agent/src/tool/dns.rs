//! DNS messages: one question out, addresses in. Bytes only; who sends them is `resolve`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Which addresses to ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
pub enum Kind {
    /// IPv4.
    A = 1,
    /// IPv6.
    Aaaa = 28,
}

/// What a server said.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    /// The addresses of that name; none if it has none of this kind.
    Addresses {
        /// The addresses.
        addresses: Vec<IpAddr>,
        /// For how many seconds they count: the least that any record says.
        ttl: u32,
    },
    /// There is no such name.
    NoSuchName,
    /// The server refuses or fails, with its code: ask another.
    Failed(u8),
}

const HEADER: usize = 12;
const CLASS_IN: u16 = 1;

/// A question for one name, recursion desired. `None` if the name cannot be one.
pub fn question(id: u16, name: &str, kind: Kind) -> Option<Vec<u8>> {
    let mut message = Vec::with_capacity(HEADER + name.len() + 6);
    message.extend_from_slice(&id.to_be_bytes());
    message.extend_from_slice(&[1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name.trim_end_matches('.').split('.') {
        if label.is_empty() || label.len() > 63 {
            return None;
        }
        message.push(label.len() as u8);
        message.extend_from_slice(label.as_bytes());
    }
    message.push(0);
    if message.len() > HEADER + 255 {
        return None;
    }
    message.extend_from_slice(&(kind as u16).to_be_bytes());
    message.extend_from_slice(&CLASS_IN.to_be_bytes());
    Some(message)
}

/// Reads the answer to a question. `None` if it is not one: another id, another question, or cut short.
pub fn answer(message: &[u8], question: &[u8]) -> Option<Answer> {
    let asked = question.get(HEADER..)?;
    let echoed = message.get(HEADER..HEADER + asked.len())?;
    let is_response = message[2] & 0x80 != 0;
    if message[..2] != question[..2] || !is_response || !echoed.eq_ignore_ascii_case(asked) {
        return None;
    }
    match message[3] & 0x0f {
        0 => {}
        3 => return Some(Answer::NoSuchName),
        code => return Some(Answer::Failed(code)),
    }
    let records = u16::from_be_bytes([message[6], message[7]]);
    let mut rest = &message[HEADER + asked.len()..];
    let (mut addresses, mut ttl) = (Vec::new(), u32::MAX);
    for _ in 0..records {
        let (record, seconds);
        (record, seconds, rest) = take_record(rest)?;
        ttl = ttl.min(seconds);
        // A chain of aliases comes along; the addresses at its end are what was asked for.
        addresses.extend(record);
    }
    Some(Answer::Addresses { addresses, ttl })
}

/// The address in the first record, if it holds one, for how long it counts, and what follows the record.
fn take_record(message: &[u8]) -> Option<(Option<IpAddr>, u32, &[u8])> {
    let rest = skip_name(message)?;
    let (fixed, rest) = rest.split_at_checked(10)?;
    let number = |at: usize| u16::from_be_bytes([fixed[at], fixed[at + 1]]);
    let (data, rest) = rest.split_at_checked(number(8).into())?;
    let address = match (number(0), number(2)) {
        (1, CLASS_IN) => <[u8; 4]>::try_from(data).ok().map(|bytes| Ipv4Addr::from(bytes).into()),
        (28, CLASS_IN) => <[u8; 16]>::try_from(data).ok().map(|bytes| Ipv6Addr::from(bytes).into()),
        _ => None,
    };
    Some((address, u32::from_be_bytes([fixed[4], fixed[5], fixed[6], fixed[7]]), rest))
}

/// What follows a name. A pointer ends it, so none is ever followed.
fn skip_name(mut message: &[u8]) -> Option<&[u8]> {
    loop {
        let (&length, rest) = message.split_first()?;
        match length {
            0 => return Some(rest),
            1..=63 => message = rest.get(usize::from(length)..)?,
            192.. => return rest.get(1..),
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// An answer to `question` whose records are `(type, data)`, their names a pointer to the question's.
    fn reply(question: &[u8], code: u8, records: &[(u16, &[u8])]) -> Vec<u8> {
        let mut message = question.to_vec();
        message[2] |= 0x80;
        message[3] = code;
        message[7] = records.len() as u8;
        for (kind, data) in records {
            message.extend_from_slice(&[0xc0, 12]);
            message.extend_from_slice(&kind.to_be_bytes());
            message.extend_from_slice(&[0, 1, 0, 0, 0, 60, 0, data.len() as u8]);
            message.extend_from_slice(data);
        }
        message
    }

    #[test]
    fn a_question_is_as_the_protocol_writes_it() {
        let message = question(0x1234, "db.default.", Kind::Aaaa).unwrap();
        assert_eq!(message, b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x02db\x07default\0\0\x1c\0\x01");
        for bad in ["", "a..b", &"x".repeat(64), &"x.".repeat(128)] {
            assert_eq!(question(1, bad, Kind::A), None, "{bad}");
        }
    }

    #[test]
    fn addresses_are_found_behind_aliases() {
        let asked = question(7, "web", Kind::A).unwrap();
        let message = reply(&asked, 0, &[(5, b"\x01a\0"), (1, &[10, 0, 0, 1]), (1, &[10, 0, 0, 2])]);
        let addresses = vec![[10, 0, 0, 1].into(), [10, 0, 0, 2].into()];
        assert_eq!(answer(&message, &asked), Some(Answer::Addresses { addresses, ttl: 60 }));
    }

    #[test]
    fn refusals_are_told_apart() {
        let asked = question(7, "web", Kind::A).unwrap();
        assert_eq!(answer(&reply(&asked, 3, &[]), &asked), Some(Answer::NoSuchName));
        assert_eq!(answer(&reply(&asked, 2, &[]), &asked), Some(Answer::Failed(2)));
    }

    #[test]
    fn what_answers_something_else_is_no_answer() {
        let asked = question(7, "web", Kind::A).unwrap();
        assert_eq!(answer(&asked, &asked), None, "a question is no answer");
        assert_eq!(answer(&reply(&question(8, "web", Kind::A).unwrap(), 0, &[]), &asked), None);
        assert_eq!(answer(&reply(&question(7, "wex", Kind::A).unwrap(), 0, &[]), &asked), None);
    }

    #[test]
    fn a_message_cut_anywhere_is_no_answer() {
        let asked = question(7, "web", Kind::A).unwrap();
        let message = reply(&asked, 0, &[(1, &[10, 0, 0, 1])]);
        for end in 0..message.len() {
            assert_eq!(answer(&message[..end], &asked), None, "cut at {end}");
        }
    }
}
