#![allow(clippy::unwrap_used)]

use hickory_proto::rr::RData;
use hickory_proto::rr::rdata::{A, TXT};

use super::*;

/// A question as a client writes it: `flags`, counts, the name `web.default`, type and class.
fn wire(flags: u16, counts: [u16; 4], kind: u16, class: u16, rest: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x12, 0x34];
    bytes.extend(flags.to_be_bytes());
    bytes.extend(counts.iter().flat_map(|it| it.to_be_bytes()));
    bytes.extend(b"\x03Web\x07default\0");
    bytes.extend(kind.to_be_bytes());
    bytes.extend(class.to_be_bytes());
    bytes.extend(rest);
    bytes
}

const RECURSE: u16 = 0x0100;

fn opt(payload: u16, version: u8, flags: u16) -> Vec<u8> {
    let mut bytes = vec![0, 0, 41];
    bytes.extend(payload.to_be_bytes());
    bytes.extend([0, version]);
    bytes.extend(flags.to_be_bytes());
    bytes.extend([0, 0]);
    bytes
}

fn plain() -> Question {
    read(&wire(RECURSE, [1, 0, 0, 0], 1, 1, &[])).unwrap()
}

fn code(refused: Result<Question, Refused>) -> ResponseCode {
    let Err(Refused::With(bytes)) = refused else { panic!("{refused:?}") };
    assert_eq!(bytes[..2], [0x12, 0x34]);
    Message::from_vec(&bytes).unwrap().metadata.response_code
}

#[test]
fn a_question_is_read_as_it_is_written() {
    let it = plain();
    assert_eq!((it.id, it.text.as_deref(), it.kind), (0x1234, Some("web.default"), RecordType::A));
    assert_eq!((it.recursion, it.unchecked, it.edns, it.udp_limit()), (true, false, None, 512));
    let it = read(&wire(0x0010, [1, 0, 0, 1], 28, 1, &opt(4096, 0, 0x8000))).unwrap();
    assert_eq!((it.kind, it.recursion, it.unchecked, it.dnssec()), (RecordType::AAAA, false, true, true));
    assert_eq!(it.udp_limit(), PAYLOAD, "no more than passes everywhere");
    let it = read(&wire(0, [1, 0, 0, 1], 1, 1, &opt(0, 0, 0))).unwrap();
    assert_eq!(it.udp_limit(), 512);
}

#[test]
fn what_is_no_question_is_not_answered() {
    assert_eq!(read(&[0; 11]), Err(Refused::Silently));
    assert_eq!(read(&wire(0x8000, [1, 0, 0, 0], 1, 1, &[])), Err(Refused::Silently));
    assert_eq!(refusal(&wire(0x8000, [1, 0, 0, 0], 1, 1, &[])), None);
    assert_eq!(refusal(&wire(RECURSE, [1, 0, 0, 0], 1, 1, &[])).map(|it| it.len()), Some(12));
}

#[test]
fn what_cannot_be_answered_is_told_so() {
    for (bytes, expected) in [
        (wire(0x2800, [1, 0, 0, 0], 1, 1, &[]), ResponseCode::NotImp),
        (wire(0, [0, 0, 0, 0], 1, 1, &[]), ResponseCode::FormErr),
        (wire(0, [2, 0, 0, 0], 1, 1, &[]), ResponseCode::FormErr),
        (wire(0, [65_535, 0, 0, 0], 1, 1, &[]), ResponseCode::FormErr),
        (wire(0, [1, 1, 0, 0], 1, 1, &[]), ResponseCode::FormErr),
        (wire(0, [1, 0, 0, 65_535], 1, 1, &[]), ResponseCode::FormErr),
        (wire(0, [1, 0, 0, 1], 1, 1, &[0xff; 3]), ResponseCode::FormErr),
        (wire(0, [1, 0, 0, 2], 1, 1, &[opt(512, 0, 0), opt(512, 0, 0)].concat()), ResponseCode::FormErr),
        (wire(0, [1, 0, 0, 0], 252, 1, &[]), ResponseCode::Refused),
        (wire(0, [1, 0, 0, 0], 1, 3, &[]), ResponseCode::Refused),
        (wire(0, [1, 0, 0, 1], 1, 1, &opt(512, 1, 0)), ResponseCode::BADVERS),
    ] {
        // Two codes have one number.
        assert_eq!(u16::from(code(read(&bytes))), u16::from(expected));
    }
}

#[test]
fn names_that_are_no_text_are_somebody_elses() {
    let mut bytes = wire(0, [1, 0, 0, 0], 1, 1, &[]);
    bytes[13] = b'.';
    assert_eq!(read(&bytes).unwrap().text, None);
    bytes[13] = 0xff;
    assert_eq!(read(&bytes).unwrap().text, None);
}

fn addresses(count: u16) -> Reply {
    let name = Name::from_ascii("web.default.").unwrap();
    let address = |it: u16| RData::A(A::new(10, 0, it.to_be_bytes()[0], it.to_be_bytes()[1]));
    let answers = (0..count).map(|it| Record::from_rdata(name.clone(), 5, address(it))).collect();
    Reply { authoritative: true, answers, ..Reply::default() }
}

#[test]
fn an_answer_says_the_question_back_as_it_was_written() {
    let bytes = write(&plain(), &addresses(1), 512);
    assert_eq!(bytes[12..28], *b"\x03Web\x07default\0\0\x01\0");
    let message = Message::from_vec(&bytes).unwrap();
    let metadata = message.metadata;
    assert_eq!((metadata.id, metadata.authoritative, metadata.recursion_available), (0x1234, true, true));
    assert_eq!((message.answers.len(), message.edns), (1, None), "no OPT for who sent none");
}

#[test]
fn a_long_answer_is_cut_at_a_record_and_says_so() {
    let asked = read(&wire(RECURSE, [1, 0, 0, 1], 1, 1, &opt(600, 0, 0))).unwrap();
    for (question, limit) in [(&plain(), 512), (&asked, asked.udp_limit())] {
        let bytes = write(question, &addresses(500), limit);
        assert!(bytes.len() <= usize::from(limit) && bytes.len() + 16 > usize::from(limit), "{}", bytes.len());
        let message = Message::from_vec(&bytes).unwrap();
        assert!(message.metadata.truncation && message.answers.len() > 20);
        assert_eq!(message.edns.is_some(), question.edns.is_some());
    }
    let whole = Message::from_vec(&write(&asked, &addresses(500), LONGEST)).unwrap();
    assert_eq!((whole.metadata.truncation, whole.answers.len()), (false, 500));
}

#[test]
fn what_comes_beside_an_answer_goes_before_it_is_cut() {
    let mut reply = addresses(25);
    reply.additionals = addresses(25).answers;
    let message = Message::from_vec(&write(&plain(), &reply, 512)).unwrap();
    assert_eq!((message.metadata.truncation, message.answers.len(), message.additionals.len()), (false, 25, 0));
}

#[test]
fn answers_of_others_are_taken_for_the_question_that_was_asked_alone() {
    let question = plain();
    let sent = ask(&question, 77, true).unwrap();
    assert_eq!(answer(&sent, &question, 77), None, "a question");
    let reply = |name: &str, kind, id| {
        let mut other = Question { id, name: Name::from_ascii(name).unwrap(), kind, ..question.clone() };
        other.name.set_fqdn(true);
        write(&other, &addresses(1), LONGEST)
    };
    assert!(answer(&reply("wEB.dEFAULT", RecordType::A, 77), &question, 77).is_some());
    assert_eq!(answer(&reply("web.default", RecordType::A, 78), &question, 77), None);
    assert_eq!(answer(&reply("web.other", RecordType::A, 77), &question, 77), None);
    assert_eq!(answer(&reply("web.default", RecordType::AAAA, 77), &question, 77), None);
    let whole = reply("web.default", RecordType::A, 77);
    for end in 0..whole.len() {
        assert_eq!(answer(&whole[..end], &question, 77), None, "cut at {end}");
    }
}

/// Numbers that are the same in every run.
fn numbers(seed: u64) -> impl FnMut() -> u64 {
    let mut state = seed;
    move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    }
}

#[test]
fn nothing_that_arrives_does_harm() {
    let txt =
        Record::from_rdata(Name::from_ascii("web.default.").unwrap(), 5, RData::TXT(TXT::new(vec!["x".repeat(200)])));
    let mut reply = addresses(3);
    reply.answers.push(txt);
    let seeds = [
        wire(RECURSE, [1, 0, 0, 1], 1, 1, &opt(1232, 0, 0x8000)),
        write(&plain(), &reply, LONGEST),
        ask(&plain(), 7, true).unwrap(),
    ];
    for seed in 1..=20_000 {
        let mut next = numbers(seed);
        let mut bytes = seeds[next() as usize % seeds.len()].clone();
        for _ in 0..=next() % 8 {
            let at = next() as usize % bytes.len();
            match next() % 4 {
                0 => bytes[at] = next() as u8,
                1 => bytes[at] ^= 1 << (next() % 8),
                2 => bytes.truncate(at.max(1)),
                // A pointer, to wherever.
                _ => bytes.splice(at..at, [0xc0 | (next() as u8 & 0x3f), next() as u8]).for_each(drop),
            }
        }
        let asked = match read(&bytes) {
            Ok(question) => write(&question, &reply, 512),
            Err(Refused::With(answer)) => answer,
            Err(Refused::Silently) => Vec::new(),
        };
        assert!(asked.len() <= 512, "seed {seed}");
        answer(&bytes, &plain(), 0x1234);
    }
}
