//! The making of the tree from the parser's events.

use super::{Entry, Fault, Mark, Node, Scalar, Tree};
use granit_parser::{Event, Marker, Options, Parser, ScalarStyle, ScanError, Span, StrInput, Tag};
use std::collections::HashMap;

/// No manifest nests deeper; what does is an attack on the stack.
const DEPTH: usize = 64;
/// Nodes that aliases may add to one file. A hundred times the largest sane use, and far below what hurts.
const ALIAS_NODES: usize = 50_000;

/// Reads every document it can; a document with a syntax error is left out and reading goes on at the next `---`.
pub(crate) fn parse(text: &str) -> (Vec<Node>, Vec<Fault>) {
    let mut options = Options::default();
    options.set_emit_comments(false);
    let parser = Parser::new_from_str_with_options(text, options);
    let mut builder = Builder { parser, anchors: HashMap::new(), spent: 0, faults: Vec::new() };
    let mut documents = Vec::new();
    loop {
        match builder.document() {
            Ok(Some(document)) => documents.push(document),
            Ok(None) => break,
            Err(Stop(mut fault)) => {
                point_at_tab(&mut fault, text);
                builder.faults.push(*fault);
                if !matches!(builder.parser.proceed_next_document(), Ok(true)) {
                    break;
                }
            }
        }
    }
    (documents, builder.faults)
}

const TAB: &str = "indent with spaces: YAML does not allow tabs there";

/// The parser notices a tab in the indentation where the line before it ended.
fn point_at_tab(fault: &mut Fault, text: &str) {
    if fault.help.as_deref() != Some(TAB) {
        return;
    }
    let indentation = |line: &str| line.chars().take_while(|c| c.is_whitespace()).position(|c| c == '\t');
    let lines = text.trim_start_matches('\u{feff}').lines().enumerate().skip(fault.at.line - 1).take(2);
    if let Some((index, column)) = lines.filter_map(|(index, line)| Some((index, indentation(line)?))).next() {
        fault.at = Mark { line: index + 1, column: column + 1, width: 1 };
    }
}

/// Why a document could not be read to its end.
struct Stop(Box<Fault>);

impl From<ScanError> for Stop {
    fn from(error: ScanError) -> Stop {
        let message = error.info();
        let help = message.contains("tab").then(|| TAB.to_owned());
        Stop(Box::new(Fault { at: mark(error.marker(), None), message, help, warning: false }))
    }
}

/// A node that `*name` may stand for.
struct Anchor {
    node: Node,
    size: usize,
    depth: usize,
}

struct Builder<'a> {
    parser: Parser<'a, StrInput<'a>>,
    anchors: HashMap<usize, Anchor>,
    spent: usize,
    faults: Vec<Fault>,
}

impl<'a> Builder<'a> {
    fn document(&mut self) -> Result<Option<Node>, Stop> {
        self.anchors.clear();
        loop {
            let Some((event, span)) = self.parser.next().transpose()? else { return Ok(None) };
            match event {
                Event::StreamStart | Event::DocumentStart(..) => {}
                Event::StreamEnd => return Ok(None),
                // Only the end marker of a document already returned.
                Event::DocumentEnd => {}
                event => return Ok(Some(self.node(event, span, 0)?)),
            }
        }
    }

    fn next(&mut self) -> Result<(Event<'a>, Span), Stop> {
        match self.parser.next() {
            Some(next) => Ok(next?),
            None => Err(stop(Mark { line: 1, column: 1, width: 1 }, "the text ends in the middle of a value", None)),
        }
    }

    fn node(&mut self, event: Event<'a>, span: Span, depth: usize) -> Result<Node, Stop> {
        let at = mark(&span.start, Some(&span.end));
        if depth > DEPTH {
            return Err(stop(at, format!("nested deeper than {DEPTH} levels"), None));
        }
        let (node, anchor) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                (self.scalar(at, text.into_owned(), style, tag.as_deref())?, anchor)
            }
            Event::SequenceStart(_, anchor, tag) => {
                collection_tag(at, tag.as_deref(), "seq")?;
                (self.list(at, depth)?, anchor)
            }
            Event::MappingStart(_, anchor, tag) => {
                collection_tag(at, tag.as_deref(), "map")?;
                (self.map(at, depth)?, anchor)
            }
            Event::Alias(id) => return self.alias(id, at, depth),
            _ => return Err(stop(at, "expected a value", None)),
        };
        if anchor != 0 {
            let (size, depth) = node.measure();
            self.anchors.insert(anchor, Anchor { node: node.clone(), size, depth });
        }
        Ok(node)
    }

    fn alias(&mut self, id: usize, at: Mark, depth: usize) -> Result<Node, Stop> {
        // Not yet known: the alias stands inside the very node it names.
        let anchor = self.anchors.get(&id).ok_or_else(|| stop(at, "this alias contains itself", None))?;
        self.spent = self.spent.saturating_add(anchor.size);
        if self.spent > ALIAS_NODES {
            let help = "write the repeated part out, or split the file".to_owned();
            return Err(stop(at, format!("aliases make this file larger than {ALIAS_NODES} values"), Some(help)));
        }
        if depth + anchor.depth > DEPTH {
            return Err(stop(at, format!("nested deeper than {DEPTH} levels"), None));
        }
        Ok(anchor.node.clone())
    }

    fn scalar(&mut self, at: Mark, text: String, style: ScalarStyle, tag: Option<&Tag>) -> Result<Node, Stop> {
        let plain = || Scalar::plain(&text);
        let meaning = match tag {
            None if style == ScalarStyle::Plain => plain(),
            None => Scalar::Str,
            Some(tag) => match (tag.core_suffix(), plain()) {
                (Some("str"), _) => Scalar::Str,
                (Some("int"), meaning @ Scalar::Int(_))
                | (Some("float"), meaning @ (Scalar::Float(_) | Scalar::Int(_)))
                | (Some("bool"), meaning @ Scalar::Bool(_))
                | (Some("null"), meaning @ Scalar::Null) => meaning,
                _ if tag.handle() == "!" && tag.suffix().is_empty() => Scalar::Str,
                _ => return Err(bad_tag(at, tag)),
            },
        };
        Ok(Node { at, tree: Tree::Scalar { text, meaning } })
    }

    fn list(&mut self, at: Mark, depth: usize) -> Result<Node, Stop> {
        let mut items = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => return Ok(Node { at, tree: Tree::List(items) }),
                (event, span) => items.push(self.node(event, span, depth + 1)?),
            }
        }
    }

    fn map(&mut self, at: Mark, depth: usize) -> Result<Node, Stop> {
        let mut entries: Vec<Entry> = Vec::new();
        let mut seen: HashMap<String, Mark> = HashMap::new();
        let mut merged: Vec<Node> = Vec::new();
        loop {
            let (key, key_at, merge) = match self.next()? {
                (Event::MappingEnd, _) => break,
                (Event::Scalar(text, style, ..), span) => {
                    let key_at = mark(&span.start, Some(&span.end));
                    let plain = style == ScalarStyle::Plain;
                    let merge = plain && text == "<<";
                    (if plain { self.key(&text, key_at) } else { text.into_owned() }, key_at, merge)
                }
                (_, span) => return Err(stop(mark(&span.start, None), "a key must be a string", None)),
            };
            let (event, span) = self.next()?;
            let value = self.node(event, span, depth + 1)?;
            if merge {
                merged.push(value);
                continue;
            }
            if let Some(first) = seen.insert(key.clone(), key_at) {
                let message = format!("`{}` is set twice", crate::suggest::clip(&key));
                let help = Some(format!("the first is in line {}; keep one", first.line));
                self.faults.push(Fault { at: key_at, message, help, warning: false });
                continue;
            }
            entries.push(Entry { key, at: key_at, value });
        }
        for node in merged {
            merge_into(&mut entries, &mut seen, node)?;
        }
        // A block mapping begins where its first key does.
        let at = entries.iter().map(|entry| entry.at).next().unwrap_or(at);
        Ok(Node { at, tree: Tree::Map(entries) })
    }

    /// Keys go through the same rules as values before they become the strings of JSON.
    fn key(&mut self, text: &str, at: Mark) -> String {
        let read = match Scalar::plain(text) {
            Scalar::Bool(value) => value.to_string(),
            Scalar::Int(value) => value.to_string(),
            Scalar::Null => "null".to_owned(),
            Scalar::Float(_) | Scalar::Str => text.to_owned(),
        };
        if read != text {
            let message = format!("the key `{text}` is read as `{read}`, as kubectl does");
            let help = Some(format!("quote it to keep it as it stands: \"{text}\""));
            self.faults.push(Fault { at, message, help, warning: true });
        }
        read
    }
}

/// `<<: *base`: keys that the mapping has itself win, then those of the first base.
fn merge_into(entries: &mut Vec<Entry>, seen: &mut HashMap<String, Mark>, node: Node) -> Result<(), Stop> {
    match node.tree {
        Tree::Map(base) => {
            for entry in base {
                if !seen.contains_key(&entry.key) {
                    seen.insert(entry.key.clone(), entry.at);
                    entries.push(entry);
                }
            }
            Ok(())
        }
        Tree::List(bases) if bases.iter().all(|base| matches!(base.tree, Tree::Map(_))) => {
            bases.into_iter().try_for_each(|base| merge_into(entries, seen, base))
        }
        _ => Err(stop(node.at, "`<<` takes a mapping or a list of mappings", None)),
    }
}

fn collection_tag(at: Mark, tag: Option<&Tag>, expected: &str) -> Result<(), Stop> {
    match tag {
        Some(tag) if tag.core_suffix() != Some(expected) => Err(bad_tag(at, tag)),
        _ => Ok(()),
    }
}

fn bad_tag(at: Mark, tag: &Tag) -> Stop {
    let name = crate::suggest::clip(&format!("{}{}", tag.original_handle(), tag.suffix()));
    stop(at, format!("the tag `{name}` does not fit this value"), Some("remove the tag".to_owned()))
}

fn stop(at: Mark, message: impl Into<String>, help: Option<String>) -> Stop {
    Stop(Box::new(Fault { at, message: message.into(), help, warning: false }))
}

/// The parser counts columns from 0. What goes on in further lines is underlined to the end of its first.
fn mark(start: &Marker, end: Option<&Marker>) -> Mark {
    let width = match end {
        Some(end) if end.line() == start.line() => end.col().saturating_sub(start.col()).max(1),
        Some(_) => usize::MAX,
        None => 1,
    };
    Mark { line: start.line().max(1), column: start.col() + 1, width }
}
