//! Messages to systemd's journal, by its own protocol: one datagram a message, one field a line.

use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::Path;

use serde_json::{Map, Value};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

use super::json::Collected;

/// Where the journal listens.
pub const SOCKET: &str = "/run/systemd/journal/socket";

/// The most of one field that is sent: a datagram has to hold all of them.
const MOST: usize = 32 * 1024;

/// The journal.
pub struct Journal {
    socket: UnixDatagram,
}

/// What a span had to say, for the events within it.
struct Around(Map<String, Value>);

impl Journal {
    /// Reaches it.
    pub fn open(path: &Path) -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        socket.connect(path)?;
        // A message is lost before the agent waits for a journal that hangs.
        socket.set_nonblocking(true)?;
        Ok(Self { socket })
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Journal {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut collected = Collected::default();
        attributes.record(&mut collected);
        if let Some(span) = context.span(id) {
            span.extensions_mut().insert(Around(collected.0));
        }
    }

    fn on_record(&self, id: &Id, record: &Record<'_>, context: Context<'_, S>) {
        let mut collected = Collected::default();
        record.record(&mut collected);
        if let Some(span) = context.span(id)
            && let Some(Around(fields)) = span.extensions_mut().get_mut::<Around>()
        {
            fields.extend(collected.0);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut fields = Map::new();
        for span in context.event_scope(event).into_iter().flat_map(|scope| scope.from_root()) {
            if let Some(Around(around)) = span.extensions().get::<Around>() {
                fields.extend(around.clone());
            }
        }
        let mut own = Collected::default();
        event.record(&mut own);
        fields.extend(own.0);
        // Nobody is left to be told of a journal that does not listen.
        let _ = self.socket.send(&datagram(*event.metadata().level(), event.metadata().target(), fields));
    }
}

fn datagram(level: Level, target: &str, mut fields: Map<String, Value>) -> Vec<u8> {
    let message = fields.remove("message").map(|it| text(&it)).unwrap_or_default();
    let mut out = Vec::new();
    field("PRIORITY", priority(level), &mut out);
    field("SYSLOG_IDENTIFIER", "coracle", &mut out);
    field("CORACLE_TARGET", target, &mut out);
    // What `journalctl` shows by itself; the fields are for searching.
    let shown = fields.iter().map(|(key, value)| format!(" {key}={}", text(value)));
    field("MESSAGE", &(message + &shown.collect::<String>()), &mut out);
    for (key, value) in &fields {
        field(&format!("CORACLE_{}", name(key)), &text(value), &mut out);
    }
    out
}

fn priority(level: Level) -> &'static str {
    match level {
        Level::ERROR => "3",
        Level::WARN => "4",
        Level::INFO => "6",
        Level::DEBUG | Level::TRACE => "7",
    }
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// The journal takes capitals, digits and underscores.
fn name(key: &str) -> String {
    key.chars().map(|it| if it.is_ascii_alphanumeric() { it.to_ascii_uppercase() } else { '_' }).collect()
}

/// A value of one line stands behind `=`; any other behind its length.
fn field(key: &str, value: &str, out: &mut Vec<u8>) {
    let cut = value.floor_char_boundary(MOST);
    let value = &value[..cut];
    out.extend_from_slice(key.as_bytes());
    if value.contains('\n') {
        out.push(b'\n');
        out.extend_from_slice(&(value.len() as u64).to_le_bytes());
    } else {
        out.push(b'=');
    }
    out.extend_from_slice(value.as_bytes());
    out.push(b'\n');
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use tracing_subscriber::layer::SubscriberExt as _;

    #[test]
    fn a_message_is_one_datagram_of_fields() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let journal = UnixDatagram::bind(&path).unwrap();
        let layer = Journal::open(&path).unwrap();
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            let _entered = tracing::info_span!("reconcile", pod = "default/web").entered();
            tracing::error!(attempt = 3, "two\nlines");
        });
        let mut buffer = [0; 4096];
        let length = journal.recv(&mut buffer).unwrap();
        let message = b"MESSAGE\n\x23\0\0\0\0\0\0\0two\nlines attempt=3 pod=default/web\n";
        let datagram = &buffer[..length];
        assert!(datagram.windows(message.len()).any(|it| it == message), "{}", String::from_utf8_lossy(datagram));
        let text = String::from_utf8_lossy(datagram);
        for line in ["PRIORITY=3\n", "SYSLOG_IDENTIFIER=coracle\n", "CORACLE_POD=default/web\n", "CORACLE_ATTEMPT=3\n"]
        {
            assert!(text.contains(line), "{line} {text}");
        }
    }

    #[test]
    fn a_value_that_is_too_long_is_cut_at_a_letter() {
        let mut out = Vec::new();
        field("A", &"ä".repeat(MOST), &mut out);
        assert_eq!(out.len(), MOST + 3);
        assert!(std::str::from_utf8(&out).is_ok());
    }
}
