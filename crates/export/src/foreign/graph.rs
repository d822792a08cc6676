//! A graph that somebody else made: what it takes and gives, and one tower of it written anew.
//!
//! Written are the nodes that the wanted output depends on, and no others, so that a graph of both
//! towers becomes two; its external data go into one file beside it, under a plain name; and where
//! the batch is fixed at one it can be freed (`batch`). Everything else stays as it was, to the byte.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Component, Path, PathBuf};

use memmap2::Mmap;
use pgclip_clip::towers::ElementType;

use super::batch;
use super::wire::{Field, Message};
use crate::error::ExportError;

// Numbers of fields in onnx.proto.
pub(super) mod model {
    pub const OPSET_IMPORT: u32 = 8;
    pub const GRAPH: u32 = 7;
    pub const FUNCTIONS: u32 = 25;
}
pub(super) mod body {
    pub const NODE: u32 = 1;
    pub const INITIALIZER: u32 = 5;
    pub const INPUT: u32 = 11;
    pub const OUTPUT: u32 = 12;
    pub const VALUE_INFO: u32 = 13;
}
pub(super) mod node {
    pub const INPUT: u32 = 1;
    pub const OUTPUT: u32 = 2;
    pub const OP_TYPE: u32 = 4;
    pub const ATTRIBUTE: u32 = 5;
    pub const DOMAIN: u32 = 7;
}
pub(super) mod attribute {
    pub const NAME: u32 = 1;
    pub const I: u32 = 3;
    pub const T: u32 = 5;
    pub const G: u32 = 6;
    pub const GRAPHS: u32 = 11;
}
pub(super) mod tensor {
    pub const DIMS: u32 = 1;
    pub const DATA_TYPE: u32 = 2;
    pub const INT64_DATA: u32 = 7;
    pub const NAME: u32 = 8;
    pub const RAW_DATA: u32 = 9;
    pub const EXTERNAL_DATA: u32 = 13;
    pub const DATA_LOCATION: u32 = 14;
}

/// Operators of ONNX and those that every build of ONNX Runtime has.
const KNOWN_DOMAINS: &[&str] =
    &["", "ai.onnx", "ai.onnx.ml", "com.microsoft", "com.microsoft.nchwc"];
/// Where external data start in their file.
const ALIGNMENT: u64 = 64;

/// An input or output.
#[derive(Clone, Debug)]
pub struct Value {
    pub name: String,
    /// `None`: a type that no tower has.
    pub element: Option<ElementType>,
    /// The axes' lengths, `None` where they are free; no axes: unknown.
    pub shape: Vec<Option<u64>>,
}

/// A node, as far as it is looked into.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub op: String,
    pub inputs: Vec<String>,
    pub outputs: Vec<String>,
    /// What its subgraphs take from outside, more or less: every name in them.
    pub inner: Vec<String>,
}

/// A graph in a mapped file.
pub struct Foreign {
    pub path: PathBuf,
    /// The folder that external data may lie in.
    root: PathBuf,
    file: Mmap,
    pub inputs: Vec<Value>,
    pub outputs: Vec<Value>,
}

/// A tower of a graph.
pub struct Tower<'f> {
    pub output: &'f str,
    /// Frees the batch of these inputs and of the output.
    pub free_batch: bool,
}

impl Foreign {
    /// Opens the graph at `path`; its external data may lie in `root` or below.
    pub fn open(path: &Path, root: &Path) -> Result<Self, ExportError> {
        let file = File::open(path).map_err(ExportError::read(path))?;
        if !file.metadata().map_err(ExportError::read(path))?.is_file() {
            return Err(ExportError::config(path, "is no file"));
        }
        // SAFETY: the mapping is private and read only. Whoever cuts the file short meanwhile ends
        // this process with SIGBUS, which is a command of their own.
        let file = unsafe { Mmap::map(&file) }.map_err(ExportError::read(path))?;
        let mut foreign = Self {
            path: path.into(),
            root: root.into(),
            file,
            inputs: Vec::new(),
            outputs: Vec::new(),
        };
        let (whole, parts) = foreign.parts()?;
        foreign.check_operators(&whole, &parts)?;
        let constants: HashSet<&str> = parts.initializers.iter().map(|(name, _)| *name).collect();
        let inputs: Vec<Value> =
            parts.inputs.iter().filter(|(name, _)| !constants.contains(name)).map(value).collect();
        let outputs: Vec<Value> = parts.outputs.iter().map(value).collect();
        (foreign.inputs, foreign.outputs) = (inputs, outputs);
        Ok(foreign)
    }

    fn bad(&self, message: impl Into<String>) -> ExportError {
        ExportError::config(&self.path, message)
    }

    /// The model's message, and the parts of its graph.
    fn parts(&self) -> Result<(Message<'_>, Parts<'_>), ExportError> {
        let no_graph = || self.bad("is no ONNX graph");
        let whole = Message::parse(&self.file).ok_or_else(no_graph)?;
        let graph = whole.message(model::GRAPH).ok_or_else(no_graph)?;
        let parts = Parts::of(graph).ok_or_else(no_graph)?;
        if parts.nodes.is_empty() || parts.outputs.is_empty() {
            return Err(no_graph());
        }
        Ok((whole, parts))
    }

    /// Refuses operators that ONNX Runtime does not have of itself.
    fn check_operators(&self, whole: &Message, parts: &Parts) -> Result<(), ExportError> {
        let functions: HashSet<&str> = whole
            .all(model::FUNCTIONS)
            .filter_map(Message::parse)
            .map(|function| function.text(10))
            .collect();
        for (_, message) in &parts.nodes {
            let domain = message.text(node::DOMAIN);
            if !KNOWN_DOMAINS.contains(&domain) && !functions.contains(domain) {
                let op = message.text(node::OP_TYPE);
                return Err(self.bad(format!(
                    "has the custom operator {domain}.{op}, which ONNX Runtime does not have"
                )));
            }
        }
        if whole.all(model::OPSET_IMPORT).next().is_none() {
            return Err(self.bad("opset_import is missing"));
        }
        Ok(())
    }

    /// ONNX's number of the type that most bytes of its weights have.
    pub fn most_weights(&self) -> Result<u64, ExportError> {
        let (_, parts) = self.parts()?;
        let mut bytes: BTreeMap<u64, u64> = BTreeMap::new();
        for (_, message) in &parts.initializers {
            let dims = message.numbers(tensor::DIMS).unwrap_or_default();
            let kind = message.number(tensor::DATA_TYPE).unwrap_or(0);
            let width = match kind {
                2 | 3 | 9 => 1,
                4 | 5 | 10 | 16 => 2,
                7 | 11 => 8,
                _ => 4,
            };
            let elements = dims.iter().fold(1u64, |n, &dim| n.saturating_mul(dim.max(0) as u64));
            *bytes.entry(kind).or_default() += elements.saturating_mul(width);
        }
        Ok(bytes.into_iter().max_by_key(|(_, bytes)| *bytes).map_or(0, |(kind, _)| kind))
    }

    /// Inputs that `output` depends on.
    pub fn needs(&self, output: &str) -> Result<Vec<&Value>, ExportError> {
        let (_, parts) = self.parts()?;
        let needed = parts.needed(output);
        Ok(self.inputs.iter().filter(|input| needed.values.contains(&input.name[..])).collect())
    }

    /// Writes one tower to `dir/file`, and its external data beside it. Returns the files' names.
    pub fn write(&self, tower: &Tower, dir: &Path, file: &str) -> Result<Vec<String>, ExportError> {
        let (mut whole, parts) = self.parts()?;
        let needed = parts.needed(tower.output);
        let data_name = format!("{file}.data");
        let mut data = Data { out: None, end: 0, known: HashMap::new(), sources: BTreeMap::new() };
        let mut kept = Vec::new();
        for (name, message) in &parts.initializers {
            if needed.values.contains(name) {
                let field = match message.number(tensor::DATA_LOCATION) {
                    Some(1) => {
                        let moved = self.moved(name, message, &mut data, dir, &data_name)?;
                        Field::Message(moved)
                    }
                    _ => Field::Message(message.clone()),
                };
                kept.push((body::INITIALIZER, field));
            }
        }
        for (at, (_, message)) in parts.nodes.iter().enumerate() {
            if needed.nodes.contains(&at) && has_external(message) {
                return Err(self.bad("has external data within a node"));
            }
        }
        let mut new = Message::default();
        for (number, field) in &parts.rest.fields {
            if *number != body::VALUE_INFO {
                new.fields.push((*number, field.clone()));
            }
        }
        let nodes = parts.nodes.iter().enumerate().filter(|(at, _)| needed.nodes.contains(at));
        new.fields
            .extend(nodes.map(|(_, (_, message))| (body::NODE, Field::Message(message.clone()))));
        new.fields.extend(kept);
        for (name, message) in &parts.inputs {
            let is_constant = parts.initializers.iter().any(|(constant, _)| constant == name);
            if needed.values.contains(name) && !is_constant {
                new.put_message(body::INPUT, message.clone());
            }
        }
        for (name, message) in &parts.outputs {
            if *name == tower.output {
                new.put_message(body::OUTPUT, message.clone());
            }
        }
        if tower.free_batch {
            batch::free(&mut new);
        }
        for (number, field) in &mut whole.fields {
            if *number == model::GRAPH {
                *field = Field::Message(std::mem::take(&mut new));
            }
        }
        let path = dir.join(file);
        let io = ExportError::write(&path);
        let written = File::create(&path).and_then(|file| {
            let mut out = BufWriter::new(file);
            whole.write(&mut out)?;
            out.into_inner().map_err(|e| e.into_error())?.sync_all()
        });
        written.map_err(io)?;
        let mut files = vec![file.to_owned()];
        if let Some(out) = data.out {
            let synced = out.into_inner().map_err(|e| e.into_error()).and_then(|f| f.sync_all());
            synced.map_err(ExportError::write(&dir.join(&data_name)))?;
            files.push(data_name);
        }
        Ok(files)
    }

    /// A constant whose bytes lie elsewhere: they are copied to the one file beside the new graph.
    fn moved<'a>(
        &self,
        name: &str,
        message: &Message<'a>,
        data: &mut Data,
        dir: &Path,
        data_name: &str,
    ) -> Result<Message<'a>, ExportError> {
        let mut fields: HashMap<&str, &str> = HashMap::new();
        for entry in message.all(tensor::EXTERNAL_DATA) {
            let entry = Message::parse(entry)
                .ok_or_else(|| self.bad(format!("{name}: external_data is damaged")))?;
            fields.insert(entry.text(1), entry.text(2));
        }
        let location = *fields
            .get("location")
            .ok_or_else(|| self.bad(format!("{name}: external_data has no location")))?;
        let number = |key: &str| match fields.get(key) {
            None => Ok(None),
            Some(text) => text
                .parse::<u64>()
                .map(Some)
                .map_err(|_| self.bad(format!("{name}: {key} of external_data is \"{text}\""))),
        };
        let (offset, length) = (number("offset")?.unwrap_or(0), number("length")?);
        if !data.sources.contains_key(location) {
            let source = self.source(name, location)?;
            data.sources.insert(location.to_owned(), source);
        }
        let source = &data.sources[location];
        let end = match length {
            Some(length) => offset.checked_add(length),
            None => Some(source.len() as u64),
        };
        let bytes = end
            .and_then(|end| source.get(offset as usize..usize::try_from(end).ok()?))
            .ok_or_else(|| {
                self.bad(format!(
                    "{name}: external data from byte {offset} on are not within \"{location}\", \
                     which has {} bytes",
                    source.len()
                ))
            })?;
        let key = (location.to_owned(), offset, bytes.len() as u64);
        let place = match data.known.get(&key) {
            Some(place) => *place,
            None => {
                let io = |e| ExportError::write(&dir.join(data_name))(e);
                if data.out.is_none() {
                    let file = File::create(dir.join(data_name)).map_err(io)?;
                    data.out = Some(BufWriter::new(file));
                }
                let place = data.end.next_multiple_of(ALIGNMENT);
                let fill = (place - data.end) as usize;
                let out = data.out.as_mut().expect("it was made above");
                out.write_all(&[0; ALIGNMENT as usize][..fill]).map_err(io)?;
                out.write_all(bytes).map_err(io)?;
                data.end = place + bytes.len() as u64;
                data.known.insert(key, place);
                place
            }
        };
        let mut moved = message.clone();
        moved.remove(tensor::EXTERNAL_DATA);
        for (key, value) in [
            ("location", data_name.to_owned()),
            ("offset", place.to_string()),
            ("length", bytes.len().to_string()),
        ] {
            let mut entry = Message::default();
            entry.put_text(1, key);
            entry.put_text(2, &value);
            moved.put_message(tensor::EXTERNAL_DATA, entry);
        }
        Ok(moved)
    }

    /// The file of external data, which lies beside the graph or below, and within the folder that
    /// was given however its links go.
    fn source(&self, name: &str, location: &str) -> Result<Mmap, ExportError> {
        let relative = Path::new(location);
        let plain = |part: Component| matches!(part, Component::Normal(_) | Component::CurDir);
        if location.is_empty() || !relative.components().all(plain) {
            return Err(self.bad(format!(
                "{name}: external data in \"{location}\", which leads out of the folder"
            )));
        }
        let path = self.path.parent().unwrap_or(Path::new(".")).join(relative);
        let missing =
            |e| self.bad(format!("{name}: external data in \"{location}\" cannot be read: {e}"));
        let real = path.canonicalize().map_err(missing)?;
        if !self.roots().iter().any(|root| real.starts_with(root)) {
            return Err(self.bad(format!(
                "{name}: external data in \"{location}\", which is a link out of the folder"
            )));
        }
        let file = File::open(&real).map_err(missing)?;
        if !file.metadata().map_err(missing)?.is_file() {
            return Err(self.bad(format!("{name}: external data in \"{location}\" are no file")));
        }
        // SAFETY: as in `open`.
        unsafe { Mmap::map(&file) }.map_err(missing)
    }

    /// The folder that was given, and where it is a snapshot in a cache of Hugging Face's, the place
    /// that its links lead to.
    fn roots(&self) -> Vec<PathBuf> {
        let mut roots: Vec<PathBuf> = self.root.canonicalize().into_iter().collect();
        if let Some(snapshots) = roots.first().and_then(|root| root.parent())
            && snapshots.ends_with("snapshots")
        {
            roots.push(snapshots.with_file_name("blobs"));
        }
        roots
    }
}

/// External data on their way into one file.
struct Data {
    out: Option<BufWriter<File>>,
    end: u64,
    /// Where each piece of each source has gone: tied weights are written once.
    known: HashMap<(String, u64, u64), u64>,
    sources: BTreeMap<String, Mmap>,
}

/// The parts of a graph, by name.
pub(super) struct Parts<'a> {
    pub nodes: Vec<(Node, Message<'a>)>,
    pub initializers: Vec<(&'a str, Message<'a>)>,
    pub inputs: Vec<(&'a str, Message<'a>)>,
    pub outputs: Vec<(&'a str, Message<'a>)>,
    /// All else.
    pub rest: Message<'a>,
}

/// What an output depends on.
struct Needed<'p> {
    values: HashSet<&'p str>,
    nodes: HashSet<usize>,
}

impl<'a> Parts<'a> {
    fn of(graph: Message<'a>) -> Option<Self> {
        let (nodes, initializers, inputs, outputs) = Default::default();
        let rest = Message::default();
        let mut parts = Self { nodes, initializers, inputs, outputs, rest };
        for (number, field) in graph.fields {
            let Field::Bytes(bytes) = field else {
                parts.rest.fields.push((number, field));
                continue;
            };
            match number {
                body::NODE => {
                    let message = Message::parse(bytes)?;
                    parts.nodes.push((Node::of(&message)?, message));
                }
                body::INITIALIZER => {
                    let message = Message::parse(bytes)?;
                    parts.initializers.push((message.text(tensor::NAME), message));
                }
                body::INPUT | body::OUTPUT => {
                    let message = Message::parse(bytes)?;
                    let list =
                        if number == body::INPUT { &mut parts.inputs } else { &mut parts.outputs };
                    list.push((message.text(1), message));
                }
                _ => parts.rest.fields.push((number, Field::Bytes(bytes))),
            }
        }
        Some(parts)
    }

    fn needed(&self, output: &str) -> Needed<'_> {
        let made: HashMap<&str, usize> = self
            .nodes
            .iter()
            .enumerate()
            .flat_map(|(at, (node, _))| node.outputs.iter().map(move |name| (&name[..], at)))
            .collect();
        let (mut values, mut nodes) = (HashSet::new(), HashSet::new());
        let mut waiting: Vec<&str> =
            self.outputs.iter().map(|(name, _)| *name).filter(|name| *name == output).collect();
        while let Some(name) = waiting.pop() {
            if !values.insert(name) {
                continue;
            }
            if let Some(&at) = made.get(name)
                && nodes.insert(at)
            {
                let node = &self.nodes[at].0;
                waiting.extend(node.inputs.iter().chain(&node.inner).map(String::as_str));
            }
        }
        Needed { values, nodes }
    }
}

impl Node {
    pub fn of(message: &Message) -> Option<Self> {
        let names = |number| -> Vec<String> {
            message.all(number).map(|name| String::from_utf8_lossy(name).into_owned()).collect()
        };
        let mut inner = Vec::new();
        for attribute in message.all(node::ATTRIBUTE) {
            let attribute = Message::parse(attribute)?;
            for graph in attribute.all(attribute::G).chain(attribute.all(attribute::GRAPHS)) {
                collect_names(&Message::parse(graph)?, &mut inner, 0)?;
            }
        }
        Some(Self {
            op: message.text(node::OP_TYPE).to_owned(),
            inputs: names(node::INPUT),
            outputs: names(node::OUTPUT),
            inner,
        })
    }
}

/// Names that the nodes and outputs of a subgraph use, and of those within it.
fn collect_names(graph: &Message, names: &mut Vec<String>, depth: usize) -> Option<()> {
    if depth > 16 {
        return None;
    }
    for output in graph.all(body::OUTPUT) {
        names.push(Message::parse(output)?.text(1).to_owned());
    }
    for message in graph.all(body::NODE) {
        let message = Message::parse(message)?;
        names.extend(message.all(node::INPUT).map(|n| String::from_utf8_lossy(n).into_owned()));
        for attribute in message.all(node::ATTRIBUTE) {
            let attribute = Message::parse(attribute)?;
            for graph in attribute.all(attribute::G).chain(attribute.all(attribute::GRAPHS)) {
                collect_names(&Message::parse(graph)?, names, depth + 1)?;
            }
        }
    }
    Some(())
}

/// Whether a tensor among a node's attributes has its bytes elsewhere.
fn has_external(message: &Message) -> bool {
    message.all(node::ATTRIBUTE).filter_map(Message::parse).any(|attribute| {
        let own = attribute.message(attribute::T);
        let within = attribute.all(attribute::G).chain(attribute.all(attribute::GRAPHS));
        own.is_some_and(|tensor| tensor.number(tensor::DATA_LOCATION) == Some(1))
            || within.filter_map(Message::parse).any(|graph| {
                let tensors = graph.all(body::INITIALIZER).filter_map(Message::parse);
                let mut tensors = tensors;
                tensors.any(|tensor| tensor.number(tensor::DATA_LOCATION) == Some(1))
                    || graph.all(body::NODE).filter_map(Message::parse).any(|n| has_external(&n))
            })
    })
}

/// A `ValueInfoProto`.
fn value((name, message): &(&str, Message)) -> Value {
    let of_tensor = message.message(2).and_then(|kind| kind.message(1));
    let element = of_tensor.as_ref().and_then(|tensor| match tensor.number(1)? {
        1 => Some(ElementType::F32),
        2 => Some(ElementType::U8),
        6 => Some(ElementType::I32),
        7 => Some(ElementType::I64),
        9 => Some(ElementType::Bool),
        10 => Some(ElementType::F16),
        _ => None,
    });
    let shape = of_tensor.and_then(|tensor| tensor.message(2));
    let axes = shape.iter().flat_map(|shape| shape.all(1)).map(|axis| {
        let axis = Message::parse(axis)?;
        axis.number(1).filter(|length| *length > 0)
    });
    Value { name: (*name).to_owned(), element, shape: axes.collect() }
}
