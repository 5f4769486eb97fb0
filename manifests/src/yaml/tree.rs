//! The tree.

use super::Scalar;

/// A place in the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Mark {
    /// From 1.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
    /// Characters to underline, at least 1.
    pub width: usize,
}

/// A value and its place.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub at: Mark,
    pub tree: Tree,
}

/// The three shapes of a value.
#[derive(Clone, Debug)]
pub(crate) enum Tree {
    Scalar { text: String, meaning: Scalar },
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// One key with its value.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub key: String,
    pub at: Mark,
    pub value: Node,
}

/// Something wrong with the text itself.
#[derive(Debug)]
pub(crate) struct Fault {
    pub at: Mark,
    pub message: String,
    pub help: Option<String>,
    pub warning: bool,
}

impl Node {
    /// Values in it, itself included, and how deep they nest.
    pub(super) fn measure(&self) -> (usize, usize) {
        let children: Box<dyn Iterator<Item = &Node>> = match &self.tree {
            Tree::Scalar { .. } => return (1, 0),
            Tree::List(items) => Box::new(items.iter()),
            Tree::Map(entries) => Box::new(entries.iter().map(|entry| &entry.value)),
        };
        children.map(Node::measure).fold((1, 0), |(size, depth), (s, d)| (size + s, depth.max(d + 1)))
    }

    /// Whether there is nothing here.
    pub(crate) fn is_null(&self) -> bool {
        matches!(self.tree, Tree::Scalar { meaning: Scalar::Null, .. })
    }
}
