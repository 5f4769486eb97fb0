//! What real clients and servers have sent: Go's spdystream under Kubernetes' `httpstream`, and gorilla's WebSocket as
//! client-go uses it. Only bytes after the upgrade.

use crate::streaming::channels::{Config, Role};
use crate::streaming::codec::{Codec, Event, Headers};
use crate::streaming::{spdy, websocket};

pub(super) const EXEC_CLIENT: &str = include_str!("data/exec.client.hex");
const EXEC_SERVER: &str = include_str!("data/exec.server.hex");
pub(super) const FORWARD_CLIENT: &str = include_str!("data/forward.client.hex");
const FORWARD_SERVER: &str = include_str!("data/forward.server.hex");
pub(super) const WEBSOCKET_CLIENT: &str = include_str!("data/websocket.client.hex");

pub(super) fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
    let digit = |it: u8| char::from(it).to_digit(16).unwrap() as u8;
    digits.chunks(2).map(|it| digit(it[0]) << 4 | digit(it[1])).collect()
}

/// One line for each thing said, the bytes of a stream together.
pub(super) fn said(codec: &mut dyn Codec, hex: &str, piece: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    let mut data = std::collections::BTreeMap::<u32, Vec<u8>>::new();
    for mut piece in bytes(hex).chunks_mut(piece) {
        while let Some(event) = codec.receive(&mut piece).unwrap() {
            match event {
                Event::Opened { id, mut headers } => {
                    codec.accept(id);
                    // Go writes them in the order of its map.
                    headers.0.sort();
                    let headers: Vec<String> = headers.0.iter().map(|it| format!("{}={}", it.0, it.1)).collect();
                    lines.push(format!("{id} opened {}", headers.join(" ")));
                }
                Event::Data { id, bytes } => data.entry(id).or_default().extend_from_slice(&bytes),
                Event::Accepted { id } => lines.push(format!("{id} accepted")),
                Event::Ended { id } => lines.push(format!("{id} ended")),
                Event::Reset { id, cancelled } => lines.push(format!("{id} reset {cancelled}")),
                Event::Farewell { over } => lines.push(format!("farewell {over}")),
            }
        }
    }
    lines.extend(data.into_iter().map(|(id, bytes)| {
        let text = String::from_utf8_lossy(&bytes);
        format!("{id} data {} {:?}", bytes.len(), text.trim_end_matches('\0'))
    }));
    lines
}

fn client(streams: usize) -> spdy::Connection {
    let mut client = spdy::Connection::new(Role::Client, &Config::default()).unwrap();
    for _ in 0..streams {
        client.open(&Headers::default()).unwrap();
    }
    client
}

#[test]
fn the_exec_of_a_go_client_is_understood_whatever_the_pieces() {
    for piece in [1, 2, 7, 64, 100_000] {
        let mut server = spdy::Connection::new(Role::Server, &Config::default()).unwrap();
        let lines = said(&mut server, EXEC_CLIENT, piece);
        let expected = [
            "1 opened streamtype=error",
            "3 opened streamtype=stdin",
            "5 opened streamtype=stdout",
            "7 opened streamtype=stderr",
            "9 opened streamtype=resize",
            "3 ended",
        ];
        assert_eq!(lines[..6], expected, "{lines:?}");
        let data = ["3 data 3014 \"hello from go\\n\"", "9 data 26 \"{\\\"Width\\\":120,\\\"Height\\\":40}\\n\""];
        assert_eq!(lines[lines.len() - 2..], data, "{lines:?}");
    }
}

#[test]
fn the_answers_of_a_go_server_are_understood() {
    for piece in [1, 3, 1000] {
        let lines = said(&mut client(5), EXEC_SERVER, piece);
        for id in [1, 3, 5, 7, 9] {
            assert!(lines.contains(&format!("{id} accepted")), "{lines:?}");
        }
        assert!(lines.contains(&"5 ended".to_owned()) && lines.contains(&"7 ended".to_owned()), "{lines:?}");
        // It cuts off the stream of the status.
        assert!(lines.contains(&"1 reset true".to_owned()), "{lines:?}");
        assert!(lines.iter().any(|it| it.starts_with("1 data") && it.contains("NonZeroExitCode")), "{lines:?}");
        assert!(lines.contains(&"5 data 3014 \"hello from go\\n\"".to_owned()), "{lines:?}");
        assert!(lines.contains(&"7 data 8 \"warning\\n\"".to_owned()), "{lines:?}");
    }
}

#[test]
fn the_port_forward_of_a_go_client_is_understood_and_its_ping_is_answered() {
    let mut server = spdy::Connection::new(Role::Server, &Config::default()).unwrap();
    let lines = said(&mut server, FORWARD_CLIENT, 5);
    let expected = [
        "1 opened port=8080 requestid=0 streamtype=error",
        "1 ended",
        "3 opened port=8080 requestid=0 streamtype=data",
        "3 ended",
        "5 opened port=8081 requestid=1 streamtype=error",
        "5 ended",
        "7 opened port=8081 requestid=1 streamtype=data",
        "7 ended",
        "9 opened port=8082 requestid=2 streamtype=error",
        "9 ended",
        "11 opened port=8082 requestid=2 streamtype=data",
        "11 ended",
        "farewell false",
        "3 data 8 \"GET /0\\r\\n\"",
        "7 data 8 \"GET /1\\r\\n\"",
        "11 data 8 \"GET /2\\r\\n\"",
    ];
    assert_eq!(lines, expected);
    assert!(server.output().ends_with(&[0x80, 3, 0, 6, 0, 0, 0, 4, 0, 0, 0, 1]), "the ping has no answer");
    let lines = said(&mut client(6), FORWARD_SERVER, 5);
    for id in [1, 3, 5, 7, 9, 11] {
        assert!(lines.contains(&format!("{id} accepted")) && lines.contains(&format!("{id} ended")), "{lines:?}");
    }
}

#[test]
fn the_messages_of_a_go_websocket_client_are_understood_whatever_the_pieces() {
    for piece in [1, 2, 7, 64, 100_000] {
        let dialect = websocket::Dialect { base64: false, closes: true, count: 5 };
        let mut server = websocket::Channels::new(Role::Server, dialect).unwrap();
        let lines = said(&mut server, WEBSOCKET_CLIENT, piece);
        let expected = [
            "0 ended",
            "farewell true",
            "0 data 3013 \"hello from go\\n\"",
            "4 data 26 \"{\\\"Width\\\":120,\\\"Height\\\":40}\\n\"",
        ];
        assert_eq!(lines, expected);
        // A pong, and the echo of the farewell.
        assert_eq!(*server.output(), [0x8a, 0, 0x88, 2, 3, 0xe8]);
    }
}
