//! Paths as layers have them, made plain: no leading slash, no `.`, no `..`, no empty part. Pure.

use super::problem::Problem;

/// Directories in directories. What walks a layer holds a descriptor for each level.
pub(super) const MAX_DEPTH: usize = 256;

const WHITEOUT: &[u8] = b".wh.";
const WHITEOUT_META: &[u8] = b".wh..wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";

/// A path relative to the layer, in plain form; empty is the layer itself.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Name(Vec<u8>);

/// What a name says about the layers below.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Whiteout<'a> {
    /// Bookkeeping of an old storage driver, nothing for us.
    Ignored,
    /// The directory hides what lower layers have in it.
    Opaque,
    /// This name is gone.
    Of(&'a [u8]),
}

impl Name {
    /// Makes a path plain; one that leads out is refused. `a/../b` is `b`: it is read as text, as every builder does.
    pub(super) fn parse(path: &[u8], max_bytes: u64) -> Result<Name, Problem> {
        if path.len() as u64 > max_bytes {
            return Err(Problem::PathTooLong { limit: max_bytes });
        }
        if path.is_empty() || path.contains(&0) {
            return Err(Problem::BadName);
        }
        if path[0] == b'/' {
            return Err(Problem::Absolute);
        }
        let mut parts: Vec<&[u8]> = Vec::new();
        for part in path.split(|b| *b == b'/') {
            match part {
                b"" | b"." => {}
                b".." => {
                    parts.pop().ok_or(Problem::ClimbsOut)?;
                }
                part => parts.push(part),
            }
        }
        if parts.len() > MAX_DEPTH {
            return Err(Problem::TooDeep { limit: MAX_DEPTH });
        }
        Ok(Name(parts.join(&b'/')))
    }

    /// The directory and the name in it; `None` for the layer itself.
    pub(super) fn split(&self) -> Option<(&[u8], &[u8])> {
        split(&self.0)
    }

    /// What the name says about the layers below, if anything.
    pub(super) fn whiteout(&self) -> Result<Option<Whiteout<'_>>, Problem> {
        let Some((parent, leaf)) = self.split() else { return Ok(None) };
        if leaf == OPAQUE {
            return Ok(Some(Whiteout::Opaque));
        }
        let bookkeeping = |part: &[u8]| part.starts_with(WHITEOUT_META);
        if bookkeeping(leaf) || parent.split(|b| *b == b'/').any(bookkeeping) {
            return Ok(Some(Whiteout::Ignored));
        }
        match leaf.strip_prefix(WHITEOUT) {
            None => Ok(None),
            Some(b"" | b"." | b"..") => Err(Problem::BadWhiteout),
            Some(hidden) => Ok(Some(Whiteout::Of(hidden))),
        }
    }
}

/// Splits a plain path at its last slash.
pub(super) fn split(path: &[u8]) -> Option<(&[u8], &[u8])> {
    if path.is_empty() {
        return None;
    }
    Some(match path.iter().rposition(|b| *b == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (&[], path),
    })
}
