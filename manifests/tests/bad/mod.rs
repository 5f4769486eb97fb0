//! The rows, by what they are about.

mod fields;
mod names;
mod pods;
mod rules;
mod support;
mod text;

use crate::Row;

pub(super) fn rows() -> Vec<&'static Row> {
    [text::ROWS, fields::ROWS, support::ROWS, names::ROWS, pods::ROWS, rules::ROWS].into_iter().flatten().collect()
}
