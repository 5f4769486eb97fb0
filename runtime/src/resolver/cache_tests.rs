#![allow(clippy::unwrap_used)]

use hickory_proto::rr::Name;
use hickory_proto::rr::rdata::{A, CNAME, SOA};

use super::*;
use crate::resolver::message::{self, LONGEST as LONGEST_MESSAGE};

fn name(text: &str) -> Name {
    let mut name = Name::from_ascii(text).unwrap();
    name.set_fqdn(true);
    name
}

fn question(text: &str, kind: RecordType) -> Question {
    Question {
        id: 1,
        name: name(text),
        text: Some(text.to_lowercase()),
        kind,
        recursion: true,
        unchecked: false,
        authentic: false,
        edns: None,
    }
}

fn address(text: &str, ttl: u32) -> Record {
    Record::from_rdata(name(text), ttl, RData::A(A::new(192, 0, 2, 1)))
}

fn nothing(ttl: u32, minimum: u32) -> Record {
    Record::from_rdata(name("org"), ttl, RData::SOA(SOA::new(name("a"), name("b"), 1, 1, 1, 1, minimum)))
}

/// For how many seconds an answer to a question for A records of `example.org` is kept.
fn kept(code: ResponseCode, answers: Vec<Record>, authorities: Vec<Record>) -> u64 {
    let question = question("example.org", RecordType::A);
    let reply = Reply { code, answers, authorities, ..Reply::default() };
    let bytes = message::write(&question, &reply, LONGEST_MESSAGE);
    let (cache, key, start) = (Cache::default(), Key::of(&question), Instant::now());
    cache.put(0, key.clone(), &bytes, &Message::from_vec(&bytes).unwrap(), start);
    let there = |seconds: &u64| cache.get(&key, start + Duration::from_secs(*seconds)).is_some();
    (0..100_000).take_while(there).count() as u64
}

#[test]
fn an_answer_is_kept_as_long_as_it_says() {
    use ResponseCode::{NXDomain, NoError, Refused, ServFail};
    let alias = Record::from_rdata(name("example.org"), 30, RData::CNAME(CNAME(name("www.example.org"))));
    assert_eq!(kept(NoError, vec![address("example.org", 300)], vec![]), 300);
    assert_eq!(kept(NoError, vec![alias.clone(), address("www.example.org", 300)], vec![]), 30);
    assert_eq!(kept(NoError, vec![address("example.org", 0)], vec![]), 0);
    assert_eq!(kept(NoError, vec![address("example.org", u32::MAX)], vec![]), u64::from(LONGEST_TTL));
    assert_eq!(kept(NXDomain, vec![], vec![nothing(40, 20)]), 20);
    assert_eq!(kept(NoError, vec![], vec![nothing(10, 20)]), 10);
    assert_eq!(kept(NoError, vec![alias], vec![nothing(100, 100)]), 30, "an alias of what is not there");
    assert_eq!(kept(NXDomain, vec![], vec![nothing(86_400, 86_400)]), u64::from(LONGEST_NEGATIVE_TTL));
    assert_eq!(kept(NXDomain, vec![], vec![]), 0, "nobody said for how long");
    assert_eq!(kept(ServFail, vec![], vec![nothing(40, 20)]), 0);
    assert_eq!(kept(Refused, vec![address("example.org", 300)], vec![]), 0);
}

#[test]
fn what_is_left_of_the_time_is_told_and_the_question_is_what_counts() {
    let asked = question("Example.ORG", RecordType::A);
    let bytes = message::write(&asked, &Reply { answers: vec![address("example.org", 300)], ..Reply::default() }, 512);
    let (cache, start) = (Cache::default(), Instant::now());
    cache.put(0, Key::of(&asked), &bytes, &Message::from_vec(&bytes).unwrap(), start);
    let later = start + Duration::from_secs(100);
    let get = |question: &Question| cache.get(&Key::of(question), later);
    assert_eq!(get(&question("example.org", RecordType::A)).unwrap().answers[0].ttl, 200);
    assert_eq!(get(&question("example.org", RecordType::AAAA)), None);
    assert_eq!(get(&question("example.com", RecordType::A)), None);
    assert_eq!(get(&Question { unchecked: true, ..question("example.org", RecordType::A) }), None);
    let then = cache.generation();
    let now = cache.clear();
    assert_eq!((get(&question("example.org", RecordType::A)), cache.generation()), (None, now));
    // Asked for before, and answered after: by servers that are not asked any more.
    let put = |generation| cache.put(generation, Key::of(&asked), &bytes, &Message::from_vec(&bytes).unwrap(), start);
    put(then);
    assert_eq!(get(&question("example.org", RecordType::A)), None);
    put(now);
    assert!(get(&question("example.org", RecordType::A)).is_some());
}

#[test]
fn labels_are_told_apart_wherever_they_end() {
    let of = |labels: &[&[u8]]| {
        let question = Question { name: Name::from_labels(labels.to_vec()).unwrap(), ..question("x", RecordType::A) };
        Key::of(&question)
    };
    assert_ne!(of(&[b"a.b", b"c"]), of(&[b"a", b"b.c"]));
    assert_ne!(of(&[b"a.b"]), of(&[b"a", b"b"]));
}

#[test]
fn the_oldest_make_room() {
    let (cache, start) = (Cache::default(), Instant::now());
    let put = |text: &str| {
        let asked = question(text, RecordType::A);
        let reply = Reply { answers: vec![address(text, 300); 40], ..Reply::default() };
        let bytes = message::write(&asked, &reply, LONGEST_MESSAGE);
        cache.put(0, Key::of(&asked), &bytes, &Message::from_vec(&bytes).unwrap(), start);
    };
    let there = |text: &str| cache.get(&Key::of(&question(text, RecordType::A)), start).is_some();
    for number in 0..5000 {
        put(&format!("n{number}.example.org"));
    }
    {
        let inner = cache.0.lock().unwrap();
        assert!(inner.bytes <= MOST_BYTES && inner.entries.len() > 500 && inner.entries.len() == inner.order.len());
    }
    assert!(there("n4999.example.org") && !there("n0.example.org"));
    // The same name again and again takes no more room than once.
    for _ in 0..20_000 {
        put("again.example.org");
    }
    let inner = cache.0.lock().unwrap();
    assert!(inner.bytes <= MOST_BYTES && inner.order.len() <= 2 * inner.entries.len() + 16);
}
