//! Where in an object a field is, as Kubernetes writes it: `spec.containers[0].image`.

use crate::yaml::{Entry, Mark, Node, Tree};
use std::fmt;

/// One step into an object.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Step {
    Field(String),
    Index(usize),
    /// A key of a map whose keys are free, such as a label.
    Key(String),
}

/// A way from the object's root.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Path(Vec<Step>);

impl Path {
    fn then(&self, step: Step) -> Path {
        let mut steps = self.0.clone();
        steps.push(step);
        Path(steps)
    }

    pub(crate) fn field(&self, name: &str) -> Path {
        self.then(Step::Field(name.to_owned()))
    }

    pub(crate) fn index(&self, index: usize) -> Path {
        self.then(Step::Index(index))
    }

    pub(crate) fn key(&self, key: &str) -> Path {
        self.then(Step::Key(key.to_owned()))
    }

    /// This path and all above it, shortest last.
    pub(crate) fn ancestry(&self) -> impl Iterator<Item = Path> + '_ {
        (0..=self.0.len()).rev().map(|length| Path(self.0[..length].to_vec()))
    }

    /// The place of the value, or of the nearest thing that exists; and of its key, if it has one.
    pub(crate) fn locate(&self, root: &Node) -> (Mark, Option<Mark>) {
        let (mut node, mut key) = (root, None);
        for step in &self.0 {
            let next = match (&node.tree, step) {
                (Tree::Map(entries), Step::Field(name) | Step::Key(name)) => {
                    entries.iter().find(|entry| entry.key == *name).map(|entry| (&entry.value, Some(entry.at)))
                }
                (Tree::List(items), Step::Index(index)) => items.get(*index).map(|item| (item, None)),
                _ => None,
            };
            match next {
                Some(next) => (node, key) = next,
                None => break,
            }
        }
        (key.map_or(node.at, |key| value_mark(node, key)), key)
    }
}

/// Where to point for a value: at the key where the value itself is nothing, or a block below.
pub(crate) fn value_mark(node: &Node, key: Mark) -> Mark {
    match &node.tree {
        Tree::Scalar { text, .. } if text.is_empty() && node.at.width <= 1 => key,
        Tree::Scalar { .. } => node.at,
        _ if node.at.line != key.line => key,
        _ => node.at,
    }
}

/// Where to point for the value of an entry.
pub(crate) fn entry_mark(entry: &Entry) -> Mark {
    value_mark(&entry.value, entry.at)
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, step) in self.0.iter().enumerate() {
            match step {
                Step::Field(name) if position == 0 => write!(f, "{}", crate::suggest::clip(name))?,
                Step::Field(name) => write!(f, ".{}", crate::suggest::clip(name))?,
                Step::Index(index) => write!(f, "[{index}]")?,
                Step::Key(key) => write!(f, "[{}]", crate::suggest::clip(key))?,
            }
        }
        Ok(())
    }
}
