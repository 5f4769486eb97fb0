//! A recording: requests, and what the real server answered to them, in a form that does not change from one time to the
//! next.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use e2e::apiserver::{Client, User};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// The node that recordings are of.
pub const NODE: &str = "recorded-1";

/// A recording.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Recording {
    /// What it shows.
    about: String,
    /// The version of the server that answered.
    pub kubernetes: String,
    steps: Vec<Step>,
}

/// A request, and its answer.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Step {
    /// Who asks: `admin`, `node`, `other` (another node), `bootstrap`, `nobody`.
    #[serde(rename = "as")]
    who: String,
    method: String,
    url: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    media: String,
    #[serde(default, skip_serializing_if = "Value::is_null")]
    body: Value,
    /// Words for what is in the answer, by JSON pointer: later steps say `${word}`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    save: BTreeMap<String, String>,
    /// Asked until this is in the answer.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    until: String,
    #[serde(default)]
    status: u16,
    #[serde(default)]
    answer: Value,
}

/// Who asks, by the words of recordings.
pub fn users() -> [(&'static str, Option<User>); 5] {
    [
        ("admin", Some(User::admin())),
        ("node", Some(User::node(NODE))),
        ("other", Some(User::node("recorded-2"))),
        ("bootstrap", Some(User::new("system:bootstrap:07401b", &["system:bootstrappers"]))),
        ("nobody", None),
    ]
}

/// The directory of recordings.
fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("recordings")
}

impl Recording {
    /// Every recording, with its file.
    pub fn all() -> Vec<(PathBuf, Self)> {
        let mut files: Vec<PathBuf> =
            std::fs::read_dir(directory()).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.retain(|file| file.extension().is_some_and(|it| it == "json"));
        files.sort();
        files.into_iter().map(|file| (file.clone(), Self::read(&file))).collect()
    }

    fn read(file: &Path) -> Self {
        let text = std::fs::read_to_string(file).unwrap();
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
    }

    /// Writes it.
    pub fn write(&self, file: &Path) {
        std::fs::write(file, serde_json::to_string_pretty(self).unwrap() + "\n").unwrap();
    }

    /// Asks again, with what is answered now.
    pub fn again(&self, clients: &BTreeMap<&str, Client>) -> Self {
        let (mut words, mut normal) = (BTreeMap::new(), Normal::default());
        let steps = self.steps.iter().map(|step| step.again(clients, &mut words, &mut normal)).collect();
        Self { steps, ..self.clone() }
    }

    /// How another one differs, step by step.
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let mut differences = Vec::new();
        for (number, (was, is)) in self.steps.iter().zip(&other.steps).enumerate() {
            let mut found = Vec::new();
            if was.status != is.status {
                found.push(format!("status {} and not {}", is.status, was.status));
            }
            compare("", &was.answer, &is.answer, &mut found);
            let step = format!("{number}: {} {} as {}", was.method, was.url, was.who);
            differences.extend(found.into_iter().map(|it| format!("{step}: {it}")));
        }
        differences
    }
}

/// Where two values differ.
fn compare(path: &str, was: &Value, is: &Value, found: &mut Vec<String>) {
    match (was, is) {
        (Value::Object(a), Value::Object(b)) => {
            let keys: std::collections::BTreeSet<&String> = a.keys().chain(b.keys()).collect();
            keys.into_iter().for_each(|key| compare(&format!("{path}/{key}"), &was[key], &is[key], found));
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            a.iter().zip(b).enumerate().for_each(|(at, (a, b))| compare(&format!("{path}/{at}"), a, b, found));
        }
        _ if was == is => {}
        _ => found.push(format!("{path}: {is} and not {was}")),
    }
}

impl Step {
    fn again(
        &self,
        clients: &BTreeMap<&str, Client>,
        words: &mut BTreeMap<String, String>,
        normal: &mut Normal,
    ) -> Self {
        let client = clients.get(self.who.as_str()).unwrap_or_else(|| panic!("nobody is called {}", self.who));
        let filled = fill(&json!([self.url, self.body]), words);
        let end = Instant::now() + e2e::deadline();
        let reply = loop {
            let media = if self.media.is_empty() { "application/json" } else { &self.media };
            let reply = client.ask(&self.method, filled[0].as_str().unwrap(), media, &filled[1]).unwrap();
            if self.until.is_empty() || reply.body.pointer(&self.until).is_some_and(|it| !it.is_null()) {
                break reply;
            }
            assert!(Instant::now() < end, "{} {} never has {}: {:#}", self.method, self.url, self.until, reply.body);
            std::thread::sleep(Duration::from_millis(100));
        };
        for (word, pointer) in &self.save {
            let found = reply.body.pointer(pointer).unwrap_or_else(|| panic!("no {pointer} in {:#}", reply.body));
            words.insert(word.clone(), found.as_str().map_or_else(|| found.to_string(), str::to_owned));
        }
        let mut answer = reply.body;
        normal.value(&mut answer);
        Self { status: reply.status, answer, ..self.clone() }
    }
}

/// Puts words in their places.
fn fill(value: &Value, words: &BTreeMap<String, String>) -> Value {
    match value {
        Value::String(text) => {
            let mut text = text.clone();
            for (word, said) in words {
                text = text.replace(&format!("${{{word}}}"), said);
            }
            assert!(!text.contains("${"), "nobody has said what {text} is");
            text.into()
        }
        Value::Array(items) => items.iter().map(|it| fill(it, words)).collect(),
        Value::Object(fields) => fields.iter().map(|(key, it)| (key.clone(), fill(it, words))).collect(),
        other => other.clone(),
    }
}

/// Names for what differs from one time to the next: the same for the same, in the order of appearance.
#[derive(Default)]
struct Normal {
    uids: Vec<String>,
    versions: Vec<String>,
}

impl Normal {
    fn value(&mut self, value: &mut Value) {
        match value {
            Value::Object(fields) => {
                // Who wrote which field is no matter of a node.
                fields.remove("managedFields");
                let is_list = fields.contains_key("items");
                for (key, value) in fields.iter_mut() {
                    match (key.as_str(), &mut *value) {
                        ("metadata", Value::Object(metadata)) if is_list => {
                            if metadata.contains_key("continue") {
                                metadata.insert("continue".to_owned(), "<continue>".into());
                            }
                            metadata.insert("resourceVersion".to_owned(), "<version>".into());
                        }
                        ("resourceVersion", Value::String(version)) => {
                            *version = number(&mut self.versions, version, "version")
                        }
                        ("token" | "certificate", Value::String(text)) if text.len() > 40 => *text = format!("<{key}>"),
                        (_, value) => self.value(value),
                    }
                }
            }
            Value::Array(items) => items.iter_mut().for_each(|it| self.value(it)),
            Value::String(text) => self.text(text),
            _ => {}
        }
    }

    fn text(&mut self, text: &mut String) {
        if is_recent(text) {
            *text = "<now>".to_owned();
            return;
        }
        // Hashes and identifiers of credentials.
        for prefix in ["X509SHA256=", "JTI="] {
            if text.starts_with(prefix) {
                *text = format!("{prefix}<hash>");
            }
        }
        let mut at = 0;
        while let Some(window) = text.get(at..at + 36) {
            if is_uid(window) {
                let name = number(&mut self.uids, window, "uid");
                text.replace_range(at..at + 36, &name);
                at += name.len();
            } else {
                at += 1;
                while !text.is_char_boundary(at) {
                    at += 1;
                }
            }
        }
        if let Some(from) = text.find("esource version: ") {
            let (head, tail) = text.split_at(from);
            let tail: String = tail.chars().map(|it| if it.is_ascii_digit() { '#' } else { it }).collect();
            *text = head.to_owned() + &squeezed(&tail);
        }
    }
}

/// Runs of `#` as one.
fn squeezed(text: &str) -> String {
    let mut out = String::new();
    for letter in text.chars() {
        if letter != '#' || !out.ends_with('#') {
            out.push(letter);
        }
    }
    out
}

fn number(all: &mut Vec<String>, one: &str, what: &str) -> String {
    let at = all.iter().position(|it| it == one).unwrap_or_else(|| {
        all.push(one.to_owned());
        all.len() - 1
    });
    format!("<{what}-{}>", at + 1)
}

fn is_uid(text: &str) -> bool {
    text.char_indices().all(|(at, it)| if matches!(at, 8 | 13 | 18 | 23) { it == '-' } else { it.is_ascii_hexdigit() })
}

/// Whether it is a time of these days: those that requests say are long ago.
fn is_recent(text: &str) -> bool {
    let Ok(time) = text.parse::<jiff::Timestamp>() else { return false };
    (time.as_second() - jiff::Timestamp::now().as_second()).abs() < 3 * 24 * 3600
}
