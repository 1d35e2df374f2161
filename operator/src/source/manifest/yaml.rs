//! YAML with places: a tree whose every node knows its line and column.
//!
//! YAML is read as `kubectl` reads it, so that a file means here what it means in a cluster; JSON is YAML. The tree is
//! bounded: a few bytes must not unfold into gigabytes (aliases), nor into a stack as deep as the file is long (nesting).

use std::{borrow::Cow, collections::HashMap};

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, StrInput, Tag};
use serde_json::Number;

use super::scalar;

/// No manifest nests deeper; the deepest field of the Gateway API is at 15.
const MAX_DEPTH: usize = 100;

/// Values in one document. An API server would refuse far smaller ones (3 MiB); a `List` may hold many objects.
const MAX_NODES: usize = 2_000_000;

/// Values, and kilobytes of text, that all aliases of a document may stand for.
const MAX_ALIASED: usize = 100_000;

/// Where something starts, counted from 1, in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::source) struct Place {
    pub(in crate::source) line: usize,
    pub(in crate::source) column: usize,
}

/// A value and its place.
#[derive(Clone, Debug)]
pub(in crate::source) struct Node {
    pub(in crate::source) at: Place,
    pub(in crate::source) content: Content,
}

/// What JSON can say.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::source) enum Content {
    Null,
    Bool(bool),
    Number(Number),
    Text(String),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

impl PartialEq for Node {
    /// Wherever they stand.
    fn eq(&self, other: &Self) -> bool {
        self.content == other.content
    }
}

/// A key with its value. Keys of one map are distinct.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::source) struct Entry {
    pub(in crate::source) key: String,
    pub(in crate::source) at: Place,
    pub(in crate::source) node: Node,
}

/// Why a text is no document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::source) struct Broken {
    pub(in crate::source) at: Place,
    /// Never quotes the text: it may be a Secret.
    pub(in crate::source) message: String,
}

impl Node {
    /// The value of a key, if this is a map that has it.
    pub(in crate::source) fn get(&self, key: &str) -> Option<&Self> {
        let Content::Map(entries) = &self.content else { return None };
        entries.iter().find(|entry| entry.key == key).map(|entry| &entry.node)
    }

    /// Its entries, if it is a map.
    pub(in crate::source) fn entries(&self) -> &[Entry] {
        if let Content::Map(entries) = &self.content { entries } else { &[] }
    }

    /// Its items, if it is a list.
    pub(in crate::source) fn items(&self) -> &[Self] {
        if let Content::List(items) = &self.content { items } else { &[] }
    }

    /// The text, if it is one.
    pub(in crate::source) fn text(&self) -> Option<&str> {
        if let Content::Text(text) = &self.content { Some(text) } else { None }
    }

    /// The number, if it is a whole one.
    pub(in crate::source) fn integer(&self) -> Option<i64> {
        if let Content::Number(number) = &self.content { number.as_i64() } else { None }
    }

    /// How much it is: values, and kilobytes of text.
    fn weight(&self) -> usize {
        match &self.content {
            Content::Text(text) => 1 + text.len() / 1024,
            Content::List(items) => 1 + items.iter().map(Self::weight).sum::<usize>(),
            Content::Map(entries) => {
                let weight = |entry: &Entry| 1 + entry.key.len() / 1024 + entry.node.weight();
                1 + entries.iter().map(weight).sum::<usize>()
            }
            _ => 1,
        }
    }
}

/// Reads documents from a text that starts at `first_line` of its file.
pub(in crate::source) struct Reader<'t> {
    text: &'t str,
    parser: Parser<'t, StrInput<'t>>,
    first_line: usize,
    ended: bool,
}

impl<'t> Reader<'t> {
    pub(in crate::source) fn new(text: &'t str, first_line: usize) -> Self {
        Self { text, parser: Parser::new_from_str(text), first_line, ended: false }
    }

    /// A bracket that was never closed is found where the text goes on as if it were; the mistake is where it stands.
    fn still_open(&self, builder: &Builder) -> String {
        let bracket = |at: Place| {
            let line = self.text.lines().nth(at.line - self.first_line)?;
            line.chars().nth(at.column - 1).filter(|letter| matches!(letter, '[' | '{'))
        };
        let open = builder.open.iter().rev().find_map(|open| Some((bracket(open.at)?, open.at)));
        open.map_or_else(String::new, |(bracket, at)| {
            format!("; the {bracket} in line {}, column {} is not closed", at.line, at.column)
        })
    }

    fn place(&self, mark: &Marker) -> Place {
        Place { line: self.first_line + mark.line().saturating_sub(1), column: mark.col() + 1 }
    }
}

impl Iterator for Reader<'_> {
    type Item = Result<Node, Broken>;

    /// The next document; nothing follows a broken one.
    fn next(&mut self) -> Option<Self::Item> {
        let mut builder = Builder::default();
        while !self.ended {
            let event = match self.parser.next_event()? {
                Ok((event, span)) => builder.take(event, self.place(&span.start)),
                Err(error) => {
                    self.ended = true;
                    let message = match error.info() {
                        "recursion limit exceeded" => too_deep(),
                        info => format!("is not YAML: {info}{}", self.still_open(&builder)),
                    };
                    return Some(Err(Broken { at: self.place(error.marker()), message }));
                }
            };
            match event {
                Ok(Some(root)) => return Some(Ok(root)),
                Ok(None) => {}
                Err(broken) => {
                    self.ended = true;
                    return Some(Err(broken));
                }
            }
        }
        None
    }
}

/// A document under construction. No recursion: the depth of the input is not the depth of our stack.
#[derive(Default)]
struct Builder {
    open: Vec<Open>,
    /// By the parser's number of the anchor.
    anchors: HashMap<usize, Node>,
    nodes: usize,
    aliased: usize,
}

struct Open {
    at: Place,
    anchor: usize,
    content: OpenContent,
}

enum OpenContent {
    List(Vec<Node>),
    Map {
        entries: Vec<Entry>,
        seen: HashMap<String, usize>,
        key: Option<(String, Place)>,
        merged: Vec<Entry>,
    },
}

/// Beyond this many keys, looking for a double one by looking at all of them takes too long.
const FEW_KEYS: usize = 16;

impl Builder {
    /// Takes an event; `Some` when it completes the document.
    fn take(&mut self, event: Event<'_>, at: Place) -> Result<Option<Node>, Broken> {
        let broken = |message: String| Broken { at, message };
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let content =
                    scalar::resolve(text, style == ScalarStyle::Plain, tag.as_deref()).map_err(broken)?;
                self.complete(Node { at, content }, anchor)
            }
            Event::Alias(anchor) => {
                let Some(node) = self.anchors.get(&anchor) else {
                    return Err(broken(
                        "refers to an anchor that is not complete or not in this document".into(),
                    ));
                };
                self.aliased += node.weight();
                if self.aliased > MAX_ALIASED {
                    let message =
                        format!("unfolds its aliases to more than {MAX_ALIASED} values; write them out");
                    return Err(broken(message));
                }
                let node = node.clone();
                self.complete(node, 0)
            }
            Event::SequenceStart(anchor, tag) => {
                collection_tag(tag, "seq").map_err(broken)?;
                self.start(at, anchor, OpenContent::List(Vec::new()))
            }
            Event::MappingStart(anchor, tag) => {
                collection_tag(tag, "map").map_err(broken)?;
                let (entries, seen, merged) = (Vec::new(), HashMap::new(), Vec::new());
                self.start(at, anchor, OpenContent::Map { entries, seen, key: None, merged })
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let Some(Open { at, anchor, content }) = self.open.pop() else { return Ok(None) };
                let content = match content {
                    OpenContent::List(items) => Content::List(items),
                    OpenContent::Map { mut entries, seen, merged, .. } => {
                        for entry in merged {
                            if !has_key(&entries, &seen, &entry.key) {
                                entries.push(entry);
                            }
                        }
                        Content::Map(entries)
                    }
                };
                self.complete(Node { at, content }, anchor)
            }
            Event::Nothing
            | Event::StreamStart
            | Event::StreamEnd
            | Event::DocumentStart(_)
            | Event::DocumentEnd => Ok(None),
        }
    }

    fn start(&mut self, at: Place, anchor: usize, content: OpenContent) -> Result<Option<Node>, Broken> {
        if self.open.len() >= MAX_DEPTH {
            return Err(Broken { at, message: too_deep() });
        }
        if matches!(self.open.last(), Some(Open { content: OpenContent::Map { key: None, .. }, .. })) {
            return Err(Broken { at, message: "has a list or a map as a key: expected a text".into() });
        }
        self.open.push(Open { at, anchor, content });
        Ok(None)
    }

    fn complete(&mut self, node: Node, anchor: usize) -> Result<Option<Node>, Broken> {
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            let message = format!("has more than {MAX_NODES} values: split it");
            return Err(Broken { at: node.at, message });
        }
        if anchor > 0 {
            self.aliased += node.weight();
            if self.aliased > MAX_ALIASED {
                let message = format!("anchors more than {MAX_ALIASED} values: write them out");
                return Err(Broken { at: node.at, message });
            }
            self.anchors.insert(anchor, node.clone());
        }
        match self.open.last_mut().map(|open| &mut open.content) {
            None => return Ok(Some(node)),
            Some(OpenContent::List(items)) => items.push(node),
            Some(OpenContent::Map { entries, seen, key, merged }) => match key.take() {
                None => *key = Some((key_text(&node)?, node.at)),
                Some((name, at)) if name == MERGE => merge(merged, node, at)?,
                Some((name, at)) => {
                    if let Some(first) = first_place(entries, seen, &name) {
                        let name = show_key(&name);
                        let message = format!("{name} stands here twice: first in line {}", first.line);
                        return Err(Broken { at, message });
                    }
                    if entries.len() == FEW_KEYS {
                        seen.extend(
                            entries.iter().enumerate().map(|(index, entry)| (entry.key.clone(), index)),
                        );
                    }
                    if entries.len() >= FEW_KEYS {
                        seen.insert(name.clone(), entries.len());
                    }
                    entries.push(Entry { key: name, at, node });
                }
            },
        }
        Ok(None)
    }
}

fn too_deep() -> String {
    format!("nests deeper than {MAX_DEPTH} levels")
}

fn first_place(entries: &[Entry], seen: &HashMap<String, usize>, key: &str) -> Option<Place> {
    if seen.is_empty() {
        entries.iter().find(|entry| entry.key == key).map(|entry| entry.at)
    } else {
        seen.get(key).and_then(|index| entries.get(*index)).map(|entry| entry.at)
    }
}

fn has_key(entries: &[Entry], seen: &HashMap<String, usize>, key: &str) -> bool {
    first_place(entries, seen, key).is_some()
}

/// The key whose value is a map, or a list of maps, that fills in what is missing (YAML 1.1; `kubectl` reads it).
const MERGE: &str = "<<";

fn merge(merged: &mut Vec<Entry>, node: Node, at: Place) -> Result<(), Broken> {
    let maps = match node.content {
        Content::Map(entries) => return merge_map(merged, entries),
        Content::List(items) => items,
        _ => return Err(Broken { at, message: "merges something that is no map".into() }),
    };
    for map in maps {
        let Content::Map(entries) = map.content else {
            return Err(Broken { at, message: "merges something that is no map".into() });
        };
        merge_map(merged, entries)?;
    }
    Ok(())
}

/// The earlier one wins.
fn merge_map(merged: &mut Vec<Entry>, entries: Vec<Entry>) -> Result<(), Broken> {
    for entry in entries {
        if merged.len() > MAX_ALIASED / 100 {
            return Err(Broken { at: entry.at, message: "merges too many keys: write them out".into() });
        }
        if !merged.iter().any(|other| other.key == entry.key) {
            merged.push(entry);
        }
    }
    Ok(())
}

fn key_text(node: &Node) -> Result<String, Broken> {
    match &node.content {
        Content::Text(text) => Ok(text.clone()),
        // JSON has no other keys; `kubectl` makes texts of these.
        Content::Bool(value) => Ok(value.to_string()),
        Content::Number(number) => Ok(number.to_string()),
        _ => Err(Broken { at: node.at, message: "has a key that is not a text".into() }),
    }
}

/// A key as it may be shown: what looks like no name might be content that lost its place.
pub(in crate::source) fn show_key(key: &str) -> &str {
    let name = key.len() <= 100 && key.chars().all(|letter| letter.is_ascii_graphic());
    if name && !key.is_empty() { key } else { "this key" }
}

fn collection_tag(tag: Option<Cow<'_, Tag>>, expected: &str) -> Result<(), String> {
    match tag {
        Some(tag) if !(tag.is_yaml_core_schema() && tag.suffix == expected) => {
            Err("has a tag that means nothing in a manifest: remove it".into())
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(text: &str) -> Result<Node, Broken> {
        Reader::new(text, 1).next().expect("a document")
    }

    fn message(text: &str) -> String {
        let broken = one(text).expect_err(text);
        format!("{}:{}: {}", broken.at.line, broken.at.column, broken.message)
    }

    #[test]
    fn every_node_and_key_knows_its_place() {
        let root = one("a: 1\nb:\n  - x: [2, é, 3]\n    z: |\n      text\n").unwrap();
        let list = root.get("b").unwrap();
        assert_eq!(list.at, Place { line: 3, column: 3 });
        let item = &list.items()[0];
        assert_eq!(item.at, Place { line: 3, column: 5 });
        assert_eq!(item.get("x").unwrap().items()[2].at, Place { line: 3, column: 15 });
        assert_eq!(item.entries()[1].at, Place { line: 4, column: 5 });
        assert_eq!(item.get("z").unwrap().text(), Some("text\n"));
    }

    #[test]
    fn documents_follow_each_other_until_one_is_broken() {
        let read: Vec<_> = Reader::new("a: 1\n...\n---\nb: 2\n...\n---\n[\n", 10).collect();
        assert_eq!(read.len(), 3);
        assert!(read[0].is_ok() && read[1].is_ok());
        assert!(read[2].as_ref().is_err_and(|broken| broken.at.line >= 16), "{read:?}");
    }

    #[test]
    fn aliases_and_merges_are_unfolded() {
        let root =
            one("a: &a {x: 1, z: 2}\nb: *a\nc: {<<: *a, z: 3}\nd: {z: 4, <<: [{w: 5}, *a]}\n").unwrap();
        let keys = |node: &Node| {
            let show = |entry: &Entry| format!("{}={}", entry.key, entry.node.integer().unwrap());
            node.entries().iter().map(show).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(keys(root.get("b").unwrap()), "x=1 z=2");
        assert_eq!(keys(root.get("c").unwrap()), "z=3 x=1");
        assert_eq!(keys(root.get("d").unwrap()), "z=4 w=5 x=1");
    }

    #[test]
    fn what_is_no_document_says_where_and_why() {
        assert!(message("a: 1\n b: 2\n").starts_with("2:3: is not YAML: "), "{}", message("a: 1\n b: 2\n"));
        assert_eq!(message("a: 1\nb: 2\na: 3\n"), "3:1: a stands here twice: first in line 1");
        assert_eq!(message("? [a]\n: 1\n"), "1:3: has a list or a map as a key: expected a text");
        assert_eq!(message("a: *b\n"), "1:4: is not YAML: while parsing node, found unknown anchor");
        assert_eq!(
            message("a: &a [*a]\n"),
            "1:8: refers to an anchor that is not complete or not in this document"
        );
        assert_eq!(
            message("a: 1\nb: [x, {y: z}\nc: 2\n"),
            "3:1: is not YAML: invalid indentation in flow construct; the [ in line 2, column 4 is not closed"
        );
        assert_eq!(message("a: !mine 1\n"), "1:4: has a tag that means nothing in a manifest: remove it");
    }

    #[test]
    fn many_keys_are_still_distinct() {
        let keys: String = (0..1000).fold(String::new(), |text, index| format!("{text}k{index}: {index}\n"));
        assert_eq!(one(&keys).unwrap().entries().len(), 1000);
        assert_eq!(message(&format!("{keys}k7: 1\n")), "1001:1: k7 stands here twice: first in line 8");
    }

    #[test]
    fn bombs_end_early() {
        let bomb: String = (1..30).fold(String::new(), |text, level| {
            format!("{text}a{level}: &a{level} [*a{0}, *a{0}]\n", level - 1)
        });
        assert!(message(&format!("a0: &a0 [x, x]\n{bomb}")).contains("write them out"));
        let long = format!("a: &a \"{}\"\nb: [{}]\n", "x".repeat(1 << 20), "*a, ".repeat(1000));
        assert!(message(&long).contains("write them out"));
        let deep: String =
            (0..200).fold(String::new(), |text, level| format!("{text}{}a:\n", " ".repeat(level)));
        assert!(message(&deep).contains("nests deeper than 100 levels"));
        assert!(message(&"[".repeat(100_000)).contains("nests deeper than 100 levels"));
        assert!(message(&"- ".repeat(100_000)).contains("nests deeper than 100 levels"));
        let nested_anchors: String = (0..90).fold(String::new(), |text, level| format!("{text}&a{level} ["));
        assert!(one(&format!("{nested_anchors}{}{}", "x, ".repeat(5000), "]".repeat(90))).is_err());
    }
}
