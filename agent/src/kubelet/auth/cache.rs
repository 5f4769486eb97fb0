//! Answers that count for a while.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Answers by question. When it is full, those that count no longer make room, or else all: what is lost is asked again.
#[derive(Debug)]
pub struct Cache<K, V> {
    answers: Mutex<HashMap<K, (V, Instant)>>,
    most: usize,
}

impl<K: Eq + Hash, V: Clone> Cache<K, V> {
    /// Room for `most` answers.
    pub fn new(most: usize) -> Self {
        Self { answers: Mutex::default(), most }
    }

    /// The answer, if it counts at `now`.
    pub fn get(&self, question: &K, now: Instant) -> Option<V> {
        let answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        answers.get(question).filter(|(_, until)| *until > now).map(|(answer, _)| answer.clone())
    }

    /// Remembers an answer for so long.
    pub fn put(&self, question: K, answer: V, now: Instant, counts: Duration) {
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        if answers.len() >= self.most {
            answers.retain(|_, (_, until)| *until > now);
        }
        if answers.len() >= self.most {
            answers.clear();
        }
        answers.insert(question, (answer, now + counts));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_counts_for_its_time_and_there_is_always_room() {
        let (cache, start, second) = (Cache::new(2), Instant::now(), Duration::from_secs(1));
        cache.put("a", 1, start, second);
        cache.put("b", 2, start, second * 5);
        assert_eq!((cache.get(&"a", start), cache.get(&"a", start + second)), (Some(1), None));
        cache.put("c", 3, start + second, second);
        assert_eq!((cache.get(&"b", start + second), cache.get(&"c", start + second)), (Some(2), Some(3)));
        cache.put("d", 4, start + second, second);
        assert_eq!((cache.get(&"b", start + second), cache.get(&"d", start + second)), (None, Some(4)));
    }
}
