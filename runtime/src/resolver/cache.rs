//! What other servers answered, for as long as they say that it holds.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::{RData, Record, RecordType};

use super::message::{Question, Reply};

/// All answers together, in bytes as they came.
const MOST_BYTES: usize = 1 << 20;

/// An answer that is longer than this is asked for anew.
const LONGEST: usize = 4096;

/// What an answer costs beside its bytes.
const OVERHEAD: usize = 256;

/// However long a server says.
const LONGEST_TTL: u32 = 3600;

/// The same for names and records that are not there (RFC 2308 has hours; who waits for a name to come up has not).
const LONGEST_NEGATIVE_TTL: u32 = 60;

/// What was asked.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    name: Vec<u8>,
    kind: u16,
    dnssec: bool,
    unchecked: bool,
}

impl Key {
    /// What is asked, whoever asks, and however they write it.
    pub fn of(question: &Question) -> Self {
        let mut name = Vec::with_capacity(question.name.len());
        for label in question.name.iter() {
            name.push(label.len() as u8);
            name.extend(label.iter().map(u8::to_ascii_lowercase));
        }
        Self { name, kind: question.kind.into(), dnssec: question.dnssec(), unchecked: question.unchecked }
    }
}

struct Entry {
    bytes: Vec<u8>,
    since: Instant,
    ttl: Duration,
    /// Which entry of this key it is.
    number: u64,
}

#[derive(Default)]
struct Inner {
    entries: HashMap<Key, Entry>,
    /// Oldest first.
    order: VecDeque<(Key, u64)>,
    bytes: usize,
    number: u64,
    /// How often everything was forgotten.
    generation: u64,
}

/// Answers by what was asked.
#[derive(Default)]
pub struct Cache(Mutex<Inner>);

impl Cache {
    /// What is known, with what is left of its time.
    pub fn get(&self, key: &Key, now: Instant) -> Option<Reply> {
        let inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = inner.entries.get(key)?;
        let age = now.saturating_duration_since(entry.since);
        if age >= entry.ttl {
            return None;
        }
        let message = Message::from_vec(&entry.bytes).ok()?;
        drop(inner);
        let age = u32::try_from(age.as_secs()).unwrap_or(u32::MAX);
        let mut reply = reply(message);
        for record in reply.answers.iter_mut().chain(&mut reply.authorities) {
            record.ttl = record.ttl.min(LONGEST_TTL).saturating_sub(age);
        }
        Some(reply)
    }

    /// As of which time an answer is that is asked for after this.
    pub fn generation(&self) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).generation
    }

    /// Keeps an answer, if it may be kept: not one that was asked for before everything was forgotten.
    pub fn put(&self, generation: u64, key: Key, bytes: &[u8], message: &Message, now: Instant) {
        let Some(ttl) = ttl(message).filter(|_| bytes.len() <= LONGEST) else { return };
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if inner.generation != generation {
            return;
        }
        inner.number += 1;
        let number = inner.number;
        let entry = Entry { bytes: bytes.to_vec(), since: now, ttl: Duration::from_secs(ttl.into()), number };
        inner.bytes += cost(&key, &entry);
        if let Some(old) = inner.entries.insert(key.clone(), entry) {
            inner.bytes -= cost(&key, &old);
        }
        inner.order.push_back((key, number));
        inner.shrink();
    }

    /// Forgets everything: what was said by servers that are not asked any more. The next generation.
    pub fn clear(&self) -> u64 {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *inner = Inner { generation: inner.generation + 1, ..Inner::default() };
        inner.generation
    }
}

impl Inner {
    fn shrink(&mut self) {
        // What was replaced stays in the order until its turn comes: that has a bound too.
        while self.bytes > MOST_BYTES || self.order.len() > 2 * self.entries.len() + 16 {
            let Some((key, number)) = self.order.pop_front() else { return };
            if self.entries.get(&key).is_some_and(|it| it.number == number)
                && let Some(old) = self.entries.remove(&key)
            {
                self.bytes -= cost(&key, &old);
            }
        }
    }
}

fn cost(key: &Key, entry: &Entry) -> usize {
    // The key is in the order too.
    OVERHEAD + 2 * key.name.len() + entry.bytes.len()
}

/// For how many seconds an answer holds. None if it is not to be kept.
fn ttl(message: &Message) -> Option<u32> {
    let code = message.metadata.response_code;
    if message.metadata.truncation || !matches!(code, ResponseCode::NoError | ResponseCode::NXDomain) {
        return None;
    }
    let least = message.answers.iter().map(|it| it.ttl).min();
    let asked = message.queries.first().map(|it| it.query_type());
    let found = message.answers.iter().any(|it| Some(it.record_type()) == asked || asked == Some(RecordType::ANY));
    let ttl = if found && code == ResponseCode::NoError {
        least?.min(LONGEST_TTL)
    } else {
        // Without a word on how long there is nothing, it is asked for again.
        let nothing = message.authorities.iter().find_map(negative)?;
        least.map_or(nothing, |it| it.min(nothing)).min(LONGEST_NEGATIVE_TTL)
    };
    (ttl > 0).then_some(ttl)
}

fn negative(record: &Record) -> Option<u32> {
    match &record.data {
        RData::SOA(soa) => Some(soa.minimum.min(record.ttl)),
        _ => None,
    }
}

/// What is handed on of another server's answer: not what comes beside it, which nobody asked for.
pub fn reply(message: Message) -> Reply {
    Reply {
        code: message.metadata.response_code,
        authoritative: false,
        authentic: message.metadata.authentic_data,
        answers: message.answers,
        authorities: message.authorities,
        additionals: Vec::new(),
    }
}

#[cfg(test)]
#[path = "cache_tests.rs"]
mod tests;
