//! Frames written by hand: what must be heeded, skipped or refused.

use flate2::{Compress, Compression, FlushCompress};

use crate::streaming::channels::{Config, Error, Role};
use crate::streaming::codec::{Codec, Event, Headers};
use crate::streaming::{spdy, websocket};

fn server() -> spdy::Connection {
    spdy::Connection::new(Role::Server, &Config::default()).unwrap()
}

/// All that is said, or why not.
fn said(codec: &mut dyn Codec, bytes: &[u8]) -> Result<Vec<String>, String> {
    let (mut bytes, mut lines) = (bytes.to_vec(), Vec::new());
    let mut rest = bytes.as_mut_slice();
    while let Some(event) = codec.receive(&mut rest).map_err(|it| it.to_string())? {
        lines.push(format!("{event:?}"));
    }
    Ok(lines)
}

fn control(kind: u8, flags: u8, inside: &[u8]) -> Vec<u8> {
    let length = inside.len().to_be_bytes();
    [&[0x80, 3, 0, kind, flags, length[5], length[6], length[7]], inside].concat()
}

#[test]
fn spdy_takes_windows_settings_and_unknown_frames_and_makes_nothing_of_them() {
    let settings = control(4, 0, &[0, 0, 0, 1, 0, 0, 0, 7, 0, 0, 0, 0]);
    let window = control(9, 0, &[0, 0, 0, 1, 0, 0, 16, 0]);
    let credential = control(10, 0, &[9; 70_000]);
    let mut server = server();
    let all = [settings, window, credential, control(6, 0, &[0, 0, 0, 9])].concat();
    assert_eq!(said(&mut server, &all), Ok(vec![]));
    assert_eq!(*server.output(), control(6, 0, &[0, 0, 0, 9]), "the ping's echo");
}

#[test]
fn spdy_refuses_what_breaks_it_and_says_so() {
    let cases: [(&str, Vec<u8>); 8] = [
        ("version 2", vec![0x80, 2, 0, 6, 0, 0, 0, 4, 0, 0, 0, 1]),
        ("stream 0", vec![0, 0, 0, 0, 0, 0, 0, 1, 1]),
        ("70000 bytes", control(1, 0, &[0; 70_000])),
        ("too short", control(1, 0, &[0, 0, 0, 1])),
        ("too short", control(3, 0, &[0, 0, 0, 1])),
        ("another length", control(4, 0, &[0, 0, 0, 2, 0, 0, 0, 7, 0, 0, 0, 0])),
        ("stream 0", control(2, 0, &[0; 8])),
        ("headers", control(1, 0, &[0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0x78, 0x9c, 1, 2, 3])),
    ];
    for (why, bytes) in cases {
        let mut server = server();
        let error = said(&mut server, &bytes);
        if why != "headers" {
            assert!(error.as_ref().is_err_and(|it| it.contains(why)), "{why}: {error:?}");
        }
        assert!(error.is_err(), "{why}");
        assert_eq!(server.output()[..4], [0x80, 3, 0, 7], "{why}: no farewell");
    }
}

#[test]
fn streams_whose_ids_go_back_or_belong_to_the_server_are_refused() {
    for ids in [[3, 1], [3, 3], [1, 2]] {
        let mut client = spdy::Connection::new(Role::Client, &Config::default()).unwrap();
        client.open(&Headers::default()).unwrap();
        client.open(&Headers::default()).unwrap();
        let mut bytes = std::mem::take(client.output());
        let second = bytes.len() - (bytes.len() - 8 - usize::from(bytes[7]));
        bytes[11] = ids[0];
        bytes[second + 11] = ids[1];
        assert!(said(&mut server(), &bytes).is_err_and(|it| it.contains("new stream")), "{ids:?}");
    }
}

#[test]
fn headers_that_unpack_to_more_than_the_limit_are_refused() {
    let mut zlib = Compress::new(Compression::best(), true);
    let mut packed = Vec::with_capacity(1 << 16);
    let mut plain = vec![0, 0, 0, 1, 0, 0, 0, 1, b'x', 0, 16, 0, 0];
    plain.resize(1 << 20, b'y');
    zlib.compress_vec(&plain, &mut packed, FlushCompress::Sync).unwrap();
    assert!(packed.len() < 8000);
    let inside = [&[0, 0, 0, 1, 0, 0, 0, 0, 0, 0][..], &packed].concat();
    let error = said(&mut server(), &control(1, 0, &inside));
    assert!(error.as_ref().is_err_and(|it| it.contains("headers of more than")), "{error:?}");
}

/// The messages of a client, its farewell, what was wrong, and the answers.
type Came = (Vec<Vec<u8>>, Option<Option<u16>>, Option<Error>, Vec<u8>);

fn messages(bytes: &[u8]) -> Came {
    let mut server = websocket::Connection::new(Role::Server).unwrap();
    let (mut whole, mut open, mut closed) = (Vec::new(), Vec::new(), None);
    let mut bytes = bytes.to_vec();
    for mut piece in bytes.chunks_mut(3) {
        loop {
            match server.receive(&mut piece) {
                Ok(Some(websocket::Event::Message { bytes, last })) => {
                    open.extend_from_slice(bytes);
                    if last {
                        whole.push(std::mem::take(&mut open));
                    }
                }
                Ok(Some(websocket::Event::Closed { code })) => closed = Some(code),
                Ok(None) => break,
                Err(error) => return (whole, closed, Some(error), std::mem::take(server.output())),
            }
        }
    }
    (whole, closed, None, std::mem::take(server.output()))
}

fn frame(first: u8, bytes: &[u8]) -> Vec<u8> {
    let key = [1, 2, 3, 4];
    let length = u8::try_from(bytes.len()).unwrap();
    let masked = bytes.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key);
    [first, 0x80 | length].into_iter().chain(key).chain(masked).collect()
}

#[test]
fn a_message_in_pieces_may_have_pings_between_them_and_they_are_answered() {
    let bytes = [
        frame(0x01, "gr\u{fc}".as_bytes().split_at(3).0),
        frame(0x89, b"here?"),
        frame(0x00, "gr\u{fc}".as_bytes().split_at(3).1),
        frame(0x8a, b"unasked"),
        frame(0x80, b"n"),
        frame(0x82, b""),
        frame(0x88, &[3, 0xe8]),
        frame(0x82, b"after the farewell"),
    ];
    let (whole, closed, error, output) = messages(&bytes.concat());
    assert_eq!(whole, ["gr\u{fc}n".as_bytes(), b""]);
    assert_eq!(closed, Some(Some(1000)));
    assert!(error.is_none(), "{error:?}");
    assert_eq!(output, b"\x8a\x05here?\x88\x02\x03\xe8");
}

#[test]
fn a_websocket_peer_that_breaks_the_rules_is_told_which() {
    let long = |length: u64| [&[0x82, 0xff][..], &length.to_be_bytes(), &[0; 4]].concat();
    let cases: [(&str, u16, Vec<u8>); 12] = [
        ("no mask", 1002, vec![0x82, 1, b'x']),
        ("reserved bits", 1002, frame(0xc2, b"x")),
        ("an unknown kind", 1002, frame(0x83, b"x")),
        ("a ping in pieces", 1002, frame(0x09, b"x")),
        ("a long ping", 1002, [&[0x89, 0xfe, 0, 126, 0, 0, 0, 0][..], &[0; 126]].concat()),
        ("a continuation of nothing", 1002, frame(0x80, b"x")),
        ("a message within one", 1002, [frame(0x02, b"x"), frame(0x82, b"y")].concat()),
        ("text that is none", 1007, frame(0x81, &[0xff])),
        ("text that ends too early", 1007, frame(0x81, &[0xe4, 0xbd])),
        ("too big a message", 1009, long(33 << 20)),
        ("a length of 64 bits", 1002, long(u64::MAX)),
        ("a short length written long", 1002, long(5)),
    ];
    for (what, code, bytes) in cases {
        let (_, _, error, output) = messages(&bytes);
        assert!(matches!(error, Some(Error::Protocol { .. })), "{what}: {error:?}");
        let [high, low] = code.to_be_bytes();
        assert_eq!(output, [0x88, 2, high, low], "{what}");
    }
    for close in [&[3][..], &[3, 0xed], &[0, 1], &[3, 0xe8, 0xff]] {
        assert!(messages(&frame(0x88, close)).2.is_some(), "{close:?}");
    }
}

#[test]
fn base64_may_be_cut_anywhere_and_a_close_signal_names_one_channel() {
    let text = websocket::Dialect { base64: true, closes: false, count: 5 };
    let mut server = websocket::Channels::new(Role::Server, text).unwrap();
    let pieces = [frame(0x01, b"0Z"), frame(0x00, b"m9"), frame(0x80, b"vCgo=")].concat();
    let lines = said(&mut server, &pieces).unwrap().concat();
    assert!(lines.contains("[102, 111, 111, 10, 10]") || lines.contains("[102, 111, 111]"), "{lines}");
    assert!(said(&mut server, &frame(0x81, b"0Zm9v!")).is_err());
    let binary = websocket::Dialect { base64: false, closes: true, count: 5 };
    for (bytes, good) in [(&[255, 0][..], true), (&[255], false), (&[255, 9], false), (&[255, 0, 0], false)] {
        let mut server = websocket::Channels::new(Role::Server, binary).unwrap();
        let result = said(&mut server, &frame(0x82, bytes));
        assert_eq!(result.is_ok(), good, "{bytes:?}: {result:?}");
        assert!(!good || result == Ok(vec![format!("{:?}", Event::Ended { id: 0 })]));
    }
}
