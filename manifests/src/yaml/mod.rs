//! YAML text to a tree that knows where everything stands, with scalars read as kubectl reads them.

mod build;
mod scalar;
mod tree;

pub(crate) use build::parse;
pub(crate) use scalar::Scalar;
pub(crate) use tree::{Entry, Fault, Mark, Node, Tree};
