//! Entry points for fuzzers: arbitrary bytes in, and nothing but errors out. What they keep is bounded by the limits.

use super::channels::{Config, Role};
use super::codec::{Codec, Event};
use super::{remotecommand, spdy, websocket};

/// Has a codec read it. What it keeps to write is at the most some answer to each frame.
fn feed(codec: &mut dyn Codec, data: &[u8]) {
    // The first byte says in what pieces the rest comes.
    let Some((size, data)) = data.split_first() else { return };
    let mut bytes = data.to_vec();
    let mut said = 0;
    for mut piece in bytes.chunks_mut(usize::from(*size).max(1)) {
        loop {
            match codec.receive(&mut piece) {
                Ok(Some(Event::Opened { id, .. })) if id % 4 == 1 => codec.accept(id),
                Ok(Some(Event::Opened { id, .. })) => codec.refuse(id),
                Ok(Some(Event::Data { bytes, .. })) => said += bytes.len(),
                Ok(Some(Event::Ended { id })) => codec.end(id),
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(_) => {
                    // It says so again, and does not go on.
                    assert!(codec.receive(&mut piece).is_err(), "it went on after an error");
                    return;
                }
            }
        }
    }
    assert!(said <= data.len(), "more came out than went in");
    assert!(codec.output().len() <= 64 * (data.len() + 1), "the answers are longer than the questions");
}

/// SPDY from a client and from a server.
#[doc(hidden)]
pub fn fuzz_spdy(data: &[u8]) {
    for role in [Role::Server, Role::Client] {
        if let Ok(mut codec) = spdy::Connection::new(role, &Config { streams: 4, ..Config::default() }) {
            feed(&mut codec, data);
        }
    }
}

/// WebSocket channels, of every dialect, from a client and from a server.
#[doc(hidden)]
pub fn fuzz_websocket(data: &[u8]) {
    for role in [Role::Server, Role::Client] {
        for (base64, closes) in [(false, false), (false, true), (true, false)] {
            let dialect = websocket::Dialect { base64, closes, count: 5 };
            if let Ok(mut codec) = websocket::Channels::new(role, dialect) {
                feed(&mut codec, data);
            }
        }
    }
}

/// The bytes of channels: statuses and sizes.
#[doc(hidden)]
pub fn fuzz_remotecommand(data: &[u8]) {
    remotecommand::read_anything(data);
}
