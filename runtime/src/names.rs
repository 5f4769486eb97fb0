//! Names that are being given: what is made is not on the disk from its first moment, nor whole from the first that it is.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// The objects that this process is making, by their names.
#[derive(Debug, Default)]
pub struct Names(Mutex<BTreeMap<Vec<String>, String>>);

/// A name that nobody else gets while this is held.
#[derive(Debug)]
pub struct Reserved<'a> {
    names: &'a Names,
    name: Vec<String>,
}

impl Names {
    /// Reserves a name for `id`; the error is who has it.
    pub fn reserve(&self, name: &[&str], id: &str) -> Result<Reserved<'_>, String> {
        let name: Vec<String> = name.iter().map(|&part| part.to_owned()).collect();
        let mut names = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(holder) = names.get(&name) {
            return Err(holder.clone());
        }
        names.insert(name.clone(), id.to_owned());
        Ok(Reserved { names: self, name })
    }

    /// Whether `id` is being made.
    pub fn is_making(&self, id: &str) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).values().any(|it| it == id)
    }
}

impl Drop for Reserved<'_> {
    fn drop(&mut self) {
        self.names.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.name);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_given_once_until_it_is_let_go_of() {
        let names = Names::default();
        let first = names.reserve(&["a", "b"], "1").unwrap();
        assert_eq!(names.reserve(&["a", "b"], "2").unwrap_err(), "1");
        // The parts count, not what they look like when they are joined.
        let other = names.reserve(&["a b"], "3").unwrap();
        assert!(names.is_making("1") && names.is_making("3") && !names.is_making("2"));
        drop(first);
        let second = names.reserve(&["a", "b"], "2").unwrap();
        assert!(!names.is_making("1") && names.is_making("2"));
        drop((second, other));
    }
}
