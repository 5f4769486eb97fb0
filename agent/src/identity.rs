//! Uids, as an API server would give them.

use anyhow::Context as _;

/// A random UUID, from the random part of an id.
pub fn new_uid() -> anyhow::Result<String> {
    let id = runtime::new_id().context("make a uid")?;
    let part = |from: usize, to: usize| id.get(from..to).unwrap_or_default();
    Ok(format!("{}-{}-4{}-8{}-{}", part(0, 8), part(8, 12), part(12, 15), part(15, 18), part(18, 30)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn uids_are_uuids_and_never_the_same() {
        let uid = new_uid().unwrap();
        assert_eq!((uid.len(), uid.matches('-').count()), (36, 4));
        assert_ne!(uid, new_uid().unwrap());
    }
}
