//! The options that stand behind the `?` of an address.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use super::error::Error;

/// Decoded options; an option may be given several times.
#[derive(Clone, Debug, Default)]
pub struct Query {
    values: BTreeMap<String, Vec<String>>,
}

impl Query {
    /// Reads what stands behind the `?`.
    pub fn of(text: Option<&str>) -> Self {
        let mut values = BTreeMap::<String, Vec<String>>::new();
        for (name, value) in form_urlencoded::parse(text.unwrap_or_default().as_bytes()) {
            values.entry(name.into_owned()).or_default().push(value.into_owned());
        }
        Self { values }
    }

    /// An option that has a value; the first, if there are several.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.values.get(name)?.first().map(String::as_str).filter(|it| !it.is_empty())
    }

    /// Sets an option, whatever it was.
    pub fn set(&mut self, name: &str, value: String) {
        self.values.insert(name.to_owned(), vec![value]);
    }

    /// Takes an option away.
    pub fn remove(&mut self, name: &str) {
        self.values.remove(name);
    }

    /// These options, and of others those that are not here.
    pub fn or(mut self, others: Self) -> Self {
        for (name, values) in others.values {
            self.values.entry(name).or_insert(values);
        }
        self
    }

    /// All values of an option.
    pub fn all(&self, name: &str) -> &[String] {
        self.values.get(name).map_or(&[], Vec::as_slice)
    }

    /// A switch: as Go reads it, but that an empty value is a yes.
    pub fn switch(&self, name: &str) -> Result<bool, Error> {
        match self.values.get(name).and_then(|it| it.first()).map(String::as_str) {
            None | Some("0" | "f" | "F" | "false" | "FALSE" | "False") => Ok(false),
            Some("" | "1" | "t" | "T" | "true" | "TRUE" | "True") => Ok(true),
            Some(other) => Err(wrong(name, other, "true or false")),
        }
    }

    /// A number that is not negative.
    pub fn number(&self, name: &str) -> Result<Option<u64>, Error> {
        let number = |text: &str| text.parse().map_err(|_| wrong(name, text, "a number that is not negative"));
        self.text(name).map(number).transpose()
    }

    /// A number of seconds.
    pub fn seconds(&self, name: &str) -> Result<Option<Duration>, Error> {
        Ok(self.number(name)?.map(Duration::from_secs))
    }

    /// A time.
    pub fn time(&self, name: &str) -> Result<Option<Timestamp>, Error> {
        let time = |text: &str| text.parse().map_err(|_| wrong(name, text, "a time such as 2026-11-23T04:00:00Z"));
        self.text(name).map(time).transpose()
    }
}

fn wrong(name: &str, value: &str, expected: &str) -> Error {
    Error::BadRequest(format!("{name}: invalid value {value:?}: must be {expected}"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn options_are_decoded_and_may_repeat() {
        let query = Query::of(Some("command=sh&command=-c&command=echo+a%20%26b&stdin=true&tty=&limit=5&container="));
        assert_eq!(query.all("command"), ["sh", "-c", "echo a &b"]);
        assert!(query.switch("stdin").unwrap() && query.switch("tty").unwrap() && !query.switch("stdout").unwrap());
        assert_eq!((query.number("limit").unwrap(), query.text("container")), (Some(5), None));
        assert_eq!(query.all("other"), [""; 0]);
    }

    #[test]
    fn values_that_are_none_are_refused_by_name() {
        let query = Query::of(Some("follow=maybe&tailLines=-1&sinceTime=yesterday"));
        assert!(query.switch("follow").unwrap_err().to_string().starts_with("follow: "));
        assert!(query.number("tailLines").unwrap_err().to_string().starts_with("tailLines: "));
        assert!(query.time("sinceTime").unwrap_err().to_string().starts_with("sinceTime: "));
    }
}
