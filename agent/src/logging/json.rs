//! Messages as JSON, one object a line.

use std::fmt::{self, Debug};

use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, FormattedFields};
use tracing_subscriber::registry::LookupSpan;

/// Writes an event: `ts`, `level`, `target` and `msg`, then the fields of the spans around it, then its own.
pub struct Json;

/// Writes a span's fields as a JSON object, for [`Json`] to take up.
pub struct Fields;

/// Collects fields by their names.
#[derive(Default)]
pub struct Collected(pub Map<String, Value>);

impl Visit for Collected {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.insert(field.name().to_owned(), Value::from(format!("{value:?}")));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name().to_owned(), Value::from(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.0.insert(field.name().to_owned(), Value::from(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.0.insert(field.name().to_owned(), Value::from(value));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.0.insert(field.name().to_owned(), Value::from(value));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.0.insert(field.name().to_owned(), Value::from(value));
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        let causes = std::iter::successors(Some(value), |error| error.source()).map(ToString::to_string);
        self.0.insert(field.name().to_owned(), Value::from(causes.collect::<Vec<_>>().join(": ")));
    }
}

impl<'writer> FormatFields<'writer> for Fields {
    fn format_fields<R: RecordFields>(&self, mut writer: Writer<'writer>, fields: R) -> fmt::Result {
        let mut collected = Collected::default();
        fields.record(&mut collected);
        writer.write_str(&Value::Object(collected.0).to_string())
    }
}

impl<S, N> FormatEvent<S, N> for Json
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let meta = event.metadata();
        let mut line = Map::new();
        line.insert("ts".into(), Value::from(jiff::Timestamp::now().to_string()));
        line.insert("level".into(), Value::from(meta.level().as_str().to_ascii_lowercase()));
        line.insert("target".into(), Value::from(meta.target()));
        for span in context.event_scope().into_iter().flat_map(|scope| scope.from_root()) {
            let extensions = span.extensions();
            let fields = extensions.get::<FormattedFields<N>>().map(|it| it.fields.as_str());
            if let Some(Value::Object(fields)) = fields.and_then(|it| serde_json::from_str(it).ok()) {
                line.extend(fields);
            }
        }
        let mut own = Collected::default();
        event.record(&mut own);
        if let Some(message) = own.0.remove("message") {
            line.insert("msg".into(), message);
        }
        line.extend(own.0);
        writeln!(writer, "{}", Value::Object(line))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::io::{self, Write};
    use std::sync::{Arc, Mutex};
    use tracing_subscriber::layer::SubscriberExt as _;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn an_event_is_one_line_with_its_fields_and_those_around_it() {
        let written = Written::default();
        let sink = written.clone();
        let layer =
            tracing_subscriber::fmt::layer().with_writer(move || sink.clone()).event_format(Json).fmt_fields(Fields);
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            let span = tracing::info_span!("reconcile", pod = "default/web", uid = 7);
            let _entered = span.enter();
            tracing::warn!(attempt = 3, why = "two\nlines", "a step failed");
        });
        let text = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
        assert_eq!(text.matches('\n').count(), 1, "{text}");
        let line: Value = serde_json::from_str(&text).unwrap();
        for (key, expected) in [
            ("level", Value::from("warn")),
            ("msg", Value::from("a step failed")),
            ("pod", Value::from("default/web")),
            ("uid", Value::from(7)),
            ("attempt", Value::from(3)),
            ("why", Value::from("two\nlines")),
        ] {
            assert_eq!(line[key], expected, "{key}");
        }
        assert!(line["ts"].as_str().unwrap().parse::<jiff::Timestamp>().is_ok());
    }
}
