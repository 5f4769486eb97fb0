//! What holds whatever the bytes, and whatever the pieces they come in.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::recorded::{EXEC_CLIENT, FORWARD_CLIENT, WEBSOCKET_CLIENT, bytes};
use crate::streaming::channels::{Config, Role};
use crate::streaming::codec::{Codec, Event, Headers};
use crate::streaming::{fuzz, spdy, websocket};

/// What one end does.
#[derive(Clone, Debug)]
enum Act {
    Open(Vec<(String, String)>),
    Send(usize, Vec<u8>),
    End(usize),
    Probe,
}

fn acts(opens: bool) -> impl Strategy<Value = Vec<Act>> {
    let header = ("[a-z][a-zA-Z-]{0,10}", "[ -~]{0,40}");
    let headers = prop::collection::vec(header, 0..5).prop_map(|mut it| {
        it.iter_mut().for_each(|it| it.0.make_ascii_lowercase());
        it.sort();
        it.dedup_by(|a, b| a.0 == b.0);
        it
    });
    let send = (any::<usize>(), prop::collection::vec(any::<u8>(), 0..300)).prop_map(|(at, it)| Act::Send(at, it));
    let end = any::<usize>().prop_map(Act::End);
    let act = prop_oneof![
        u32::from(opens) * 2 + 1 => headers.prop_map(Act::Open),
        6 => send,
        1 => end,
        1 => Just(Act::Probe)
    ];
    prop::collection::vec(act, 0..40)
}

/// Has one end say what another hears, in such pieces; answers with what each stream has got.
fn deliver(from: &mut dyn Codec, to: &mut dyn Codec, pieces: &[usize], heard: &mut Heard) {
    let mut bytes = std::mem::take(from.output());
    let mut rest = bytes.as_mut_slice();
    for size in pieces.iter().copied().chain(std::iter::repeat(4096)) {
        if rest.is_empty() {
            break;
        }
        let (mut piece, tail) = rest.split_at_mut(size.clamp(1, rest.len()));
        rest = tail;
        while let Some(event) = to.receive(&mut piece).unwrap() {
            match event {
                Event::Opened { id, headers } => {
                    to.accept(id);
                    heard.opened.push((id, headers.0));
                }
                Event::Data { id, bytes } => heard.data.entry(id).or_default().extend_from_slice(&bytes),
                Event::Ended { id } => heard.ended.push(id),
                _ => {}
            }
        }
    }
}

#[derive(Default)]
struct Heard {
    opened: Vec<(u32, Vec<(String, String)>)>,
    data: BTreeMap<u32, Vec<u8>>,
    ended: Vec<u32>,
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn spdy_says_to_the_server_what_the_client_does(acts in acts(true), pieces in prop::collection::vec(1..200_usize, 0..60)) {
        let mut client = spdy::Connection::new(Role::Client, &Config::default()).unwrap();
        let mut server = spdy::Connection::new(Role::Server, &Config::default()).unwrap();
        let (mut opened, mut data, mut ended) = (Vec::new(), BTreeMap::<u32, Vec<u8>>::new(), Vec::new());
        for act in acts {
            let one = |at: usize, opened: &Vec<(u32, _)>| opened.get(at % opened.len().max(1)).map(|it| it.0);
            match act {
                Act::Open(headers) => opened.push((client.open(&Headers(headers.clone())).unwrap(), headers)),
                Act::Probe => client.probe(),
                Act::Send(at, bytes) => {
                    if let Some(id) = one(at, &opened) {
                        client.send(id, &bytes);
                        if !ended.contains(&id) && !bytes.is_empty() {
                            data.entry(id).or_default().extend(bytes);
                        }
                    }
                }
                Act::End(at) => {
                    if let Some(id) = one(at, &opened).filter(|id| !ended.contains(id)) {
                        client.end(id);
                        ended.push(id);
                    }
                }
            }
        }
        let mut heard = Heard::default();
        deliver(&mut client, &mut server, &pieces, &mut heard);
        prop_assert_eq!(heard.opened, opened);
        prop_assert_eq!(heard.data, data);
        prop_assert_eq!(heard.ended, ended);
        // And the server's answers are understood.
        deliver(&mut server, &mut client, &pieces, &mut Heard::default());
    }

    #[test]
    fn channels_say_to_the_server_what_the_client_does(
        acts in acts(false),
        pieces in prop::collection::vec(1..200_usize, 0..60),
        base64: bool,
    ) {
        let dialect = websocket::Dialect { base64, closes: !base64, count: 5 };
        let mut client = websocket::Channels::new(Role::Client, dialect).unwrap();
        let mut server = websocket::Channels::new(Role::Server, dialect).unwrap();
        let (mut data, mut ended) = (BTreeMap::<u32, Vec<u8>>::new(), Vec::new());
        for act in acts {
            match act {
                Act::Send(at, bytes) => {
                    client.send(at as u32 % 5, &bytes);
                    if !bytes.is_empty() {
                        data.entry(at as u32 % 5).or_default().extend(bytes);
                    }
                }
                Act::End(at) if !base64 => {
                    client.end(at as u32 % 5);
                    ended.push(at as u32 % 5);
                }
                Act::Probe => client.probe(),
                _ => {}
            }
        }
        let mut heard = Heard::default();
        deliver(&mut client, &mut server, &pieces, &mut heard);
        prop_assert_eq!(heard.data, data);
        prop_assert_eq!(heard.ended, ended);
        deliver(&mut server, &mut client, &pieces, &mut Heard::default());
    }

    #[test]
    fn no_bytes_make_it_panic(data in prop::collection::vec(any::<u8>(), 0..2000)) {
        fuzz::fuzz_spdy(&data);
        fuzz::fuzz_websocket(&data);
        fuzz::fuzz_remotecommand(&data);
    }
}

/// Mutations of what real clients send, for as long as asked.
#[test]
fn mutated_recordings_find_nothing() {
    let seconds = std::env::var("CORACLE_FUZZ_SECONDS").ok().and_then(|it| it.parse().ok()).unwrap_or(1);
    let mut corpus: Vec<Vec<u8>> = [EXEC_CLIENT, FORWARD_CLIENT, WEBSOCKET_CLIENT].map(bytes).into();
    corpus.push(br#"{"status":"Failure","reason":"NonZeroExitCode","details":{"causes":[{"reason":"ExitCode","message":"3"}]}}"#.to_vec());
    corpus.push(b"{\"Width\":1,\"Height\":2}\n{\"Width\":3}".to_vec());
    let mut state = 0x9e37_79b9_7f4a_7c15_u64 ^ u64::from(std::process::id());
    let mut random = move |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below.max(1) as u64) as usize
    };
    let until = Instant::now() + Duration::from_secs(seconds);
    let mut rounds = 0_u64;
    while Instant::now() < until {
        let mut data = vec![random(256) as u8];
        data.extend_from_slice(&corpus[random(corpus.len())]);
        for _ in 0..random(12) {
            let at = random(data.len());
            match random(6) {
                0 => data[at] = random(256) as u8,
                1 => data[at] ^= 1 << random(8),
                2 => data.truncate(at.max(1)),
                3 => drop(data.drain(at.max(1)..(at.max(1) + random(16)).min(data.len().max(at.max(1))))),
                4 => data.insert(at, random(256) as u8),
                _ => {
                    let from = random(data.len());
                    let piece = data[from..(from + random(64)).min(data.len())].to_vec();
                    data.splice(at..at, piece);
                }
            }
        }
        fuzz::fuzz_spdy(&data);
        fuzz::fuzz_websocket(&data);
        fuzz::fuzz_remotecommand(&data[1..]);
        rounds += 1;
    }
    println!("{rounds} rounds");
    assert!(rounds > 0);
}
