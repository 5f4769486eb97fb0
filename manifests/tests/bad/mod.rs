//! The rows, by what they are about.

mod ambassador;
mod fields;
mod names;
mod pods;
mod rules;
mod support;
mod text;

use crate::Row;

pub(super) fn rows() -> Vec<&'static Row> {
    [text::ROWS, fields::ROWS, support::ROWS, ambassador::ROWS, names::ROWS, pods::ROWS, rules::ROWS]
        .into_iter()
        .flatten()
        .collect()
}
