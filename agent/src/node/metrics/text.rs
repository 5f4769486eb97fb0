//! The text format of Prometheus.

use std::fmt::Write as _;

/// A page of metrics being written.
#[derive(Debug, Default)]
pub struct Page {
    text: String,
}

/// What a family of samples is.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// It only grows.
    Counter,
    /// It goes up and down.
    Gauge,
    /// How often what took how long.
    Histogram,
}

impl Page {
    /// Begins a family; its samples follow.
    pub fn family(&mut self, name: &str, kind: Kind, help: &str) {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        // Writing to a String cannot fail.
        let _ = write!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }

    /// A sample.
    pub fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        self.sample_at(name, labels, value, None);
    }

    /// A sample that was taken at some time, in thousandths of a second since 1970.
    pub fn sample_at(&mut self, name: &str, labels: &[(&str, &str)], value: f64, at: Option<i64>) {
        self.text.push_str(name);
        if !labels.is_empty() {
            self.text.push('{');
            for (index, (label, value)) in labels.iter().enumerate() {
                if index > 0 {
                    self.text.push(',');
                }
                let _ = write!(self.text, "{label}=\"");
                self.escaped(value);
                self.text.push('"');
            }
            self.text.push('}');
        }
        let _ = match at {
            Some(at) => writeln!(self.text, " {value} {at}"),
            None => writeln!(self.text, " {value}"),
        };
    }

    /// A family of one sample without labels.
    pub fn single(&mut self, name: &str, kind: Kind, help: &str, value: f64) {
        self.family(name, kind, help);
        self.sample(name, &[], value);
    }

    /// The page.
    pub fn finish(self) -> String {
        self.text
    }

    fn escaped(&mut self, value: &str) {
        for letter in value.chars() {
            match letter {
                '\\' => self.text.push_str("\\\\"),
                '"' => self.text.push_str("\\\""),
                '\n' => self.text.push_str("\\n"),
                other => self.text.push(other),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_what_prometheus_reads() {
        let mut page = Page::default();
        page.family("a_total", Kind::Counter, "How many.");
        page.sample("a_total", &[("pod", "x\"\\\n"), ("n", "")], 3.0);
        page.single("b", Kind::Gauge, "How much.", 0.25);
        page.sample_at("b", &[], 1.0, Some(5));
        assert_eq!(
            page.finish(),
            "# HELP a_total How many.\n# TYPE a_total counter\na_total{pod=\"x\\\"\\\\\\n\",n=\"\"} 3\n\
             # HELP b How much.\n# TYPE b gauge\nb 0.25\nb 1 5\n"
        );
    }
}
