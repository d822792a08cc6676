//! Writes a graph as an ONNX file, streaming the weights.
//!
//! A protobuf message of a few gigabytes would have to lie in memory twice before it is written.
//! Lengths of all initialisers are known beforehand, so here the frame is written by hand, and
//! one initialiser after the other between its parts:
//!
//! ```text
//! ModelProto:  ir_version, producer, opset_import        encoded by prost
//!              graph: key, length                        the length of all that follows
//!   GraphProto:  nodes, name, inputs, outputs            encoded by prost
//!                initializer: key, length                once for each
//!     TensorProto:  dims, data_type, name, …             encoded by prost
//!                   raw_data: key, length, bytes         made on the spot
//! ```
//!
//! Protobuf ends at 2 GiB; larger models have their weights in a second file instead of
//! `raw_data`.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use prost::Message;

use crate::error::ExportError;
use crate::graph::{Graph, IR_VERSION, Initializer, OPSET, data_type};
use crate::proto::{
    DataLocation, GraphProto, ModelProto, OperatorSetIdProto, StringStringEntryProto, TensorProto,
};

/// Models with more bytes of weights than this get a second file: 2 GiB less what the graph
/// itself may need.
pub const MOST_INLINE_BYTES: u64 = (2 << 30) - (64 << 20);

/// Weights in a second file start at multiples of this, so that they can be mapped.
const ALIGNMENT: u64 = 64;

/// Weights that stay in the graph in any case: shape inference needs the values.
const ALWAYS_INLINE_BYTES: u64 = 1024;

/// Keys of `ModelProto.graph`, `GraphProto.initializer` and `TensorProto.raw_data`: the field's
/// number, and wire type 2 (length and bytes).
const GRAPH_KEY: u8 = 7 << 3 | 2;
const INITIALIZER_KEY: u8 = 5 << 3 | 2;
const RAW_DATA_KEY: u8 = 9 << 3 | 2;

/// Writes `graph` to `dir/file` and, if its weights have more than `most_inline` bytes, those to
/// `dir/file.data`. Returns the names of the files written.
pub fn write(
    graph: &Graph<'_>,
    dir: &Path,
    file: &str,
    most_inline: u64,
) -> Result<Vec<String>, ExportError> {
    let external = graph.initializers.iter().map(Initializer::bytes).sum::<u64>() > most_inline;
    let data_file = format!("{file}.data");
    let tensors = headers(graph, external.then_some(data_file.as_str()));
    write_graph(graph, &tensors, &dir.join(file))?;
    let mut files = vec![file.to_owned()];
    if external {
        write_data(graph, &tensors, &dir.join(&data_file))?;
        files.push(data_file);
    }
    Ok(files)
}

impl Initializer<'_> {
    fn bytes(&self) -> u64 {
        (self.recipe.len() * self.element.size()) as u64
    }
}

/// Each initialiser without its bytes.
fn headers(graph: &Graph<'_>, data_file: Option<&str>) -> Vec<TensorProto> {
    let mut end = 0;
    let header = |initializer: &Initializer<'_>| {
        let mut tensor = TensorProto {
            dims: initializer.recipe.dims.iter().map(|&dim| dim as i64).collect(),
            data_type: data_type(initializer.element) as i32,
            name: initializer.name.clone(),
            ..Default::default()
        };
        let length = initializer.bytes();
        if let Some(file) = data_file.filter(|_| length > ALWAYS_INLINE_BYTES) {
            let offset = u64::next_multiple_of(end, ALIGNMENT);
            end = offset + length;
            tensor.set_data_location(DataLocation::External);
            tensor.external_data = [
                ("location", file.to_owned()),
                ("offset", offset.to_string()),
                ("length", length.to_string()),
            ]
            .map(|(key, value)| StringStringEntryProto { key: key.into(), value })
            .into();
        }
        tensor
    };
    graph.initializers.iter().map(header).collect()
}

fn write_graph(graph: &Graph<'_>, tensors: &[TensorProto], path: &Path) -> Result<(), ExportError> {
    let model = ModelProto {
        ir_version: IR_VERSION,
        producer_name: "pgclip".into(),
        producer_version: env!("CARGO_PKG_VERSION").into(),
        graph: None,
        opset_import: vec![OperatorSetIdProto { domain: String::new(), version: OPSET }],
    };
    let body = GraphProto {
        node: graph.nodes.clone(),
        name: "clip".into(),
        initializer: Vec::new(),
        input: graph.inputs.clone(),
        output: graph.outputs.clone(),
    };
    let lengths: Vec<usize> = graph
        .initializers
        .iter()
        .zip(tensors)
        .map(|(initializer, tensor)| tensor.encoded_len() + raw_data_len(initializer, tensor))
        .collect();
    let initializers: usize =
        lengths.iter().map(|&length| 1 + prost::length_delimiter_len(length) + length).sum();

    let io = ExportError::write(path);
    let mut out = BufWriter::new(match File::create_new(path) {
        Ok(file) => file,
        Err(e) => return Err(io(e)),
    });
    let mut frame = model.encode_to_vec();
    key_and_length(&mut frame, GRAPH_KEY, body.encoded_len() + initializers);
    frame.extend(body.encode_to_vec());
    let mut write = |bytes: &[u8]| out.write_all(bytes).map_err(ExportError::write(path));
    write(&frame)?;
    for ((initializer, tensor), &length) in graph.initializers.iter().zip(tensors).zip(&lengths) {
        let mut head = Vec::new();
        key_and_length(&mut head, INITIALIZER_KEY, length);
        head.extend(tensor.encode_to_vec());
        if tensor.external_data.is_empty() {
            let bytes = initializer.recipe.bytes(initializer.element)?;
            key_and_length(&mut head, RAW_DATA_KEY, bytes.len());
            write(&head)?;
            write(&bytes)?;
        } else {
            write(&head)?;
        }
    }
    finish(out).map_err(io)
}

/// Bytes of the field `raw_data`: none if they are in the second file.
fn raw_data_len(initializer: &Initializer<'_>, tensor: &TensorProto) -> usize {
    if !tensor.external_data.is_empty() {
        return 0;
    }
    let length = initializer.bytes() as usize;
    1 + prost::length_delimiter_len(length) + length
}

fn write_data(graph: &Graph<'_>, tensors: &[TensorProto], path: &Path) -> Result<(), ExportError> {
    let io = |source| ExportError::write(path)(source);
    let mut out = BufWriter::new(File::create_new(path).map_err(io)?);
    let mut end = 0;
    for (initializer, tensor) in graph.initializers.iter().zip(tensors) {
        if tensor.external_data.is_empty() {
            continue;
        }
        let offset = u64::next_multiple_of(end, ALIGNMENT);
        out.write_all(&[0; ALIGNMENT as usize][..(offset - end) as usize]).map_err(io)?;
        out.write_all(&initializer.recipe.bytes(initializer.element)?).map_err(io)?;
        end = offset + initializer.bytes();
    }
    finish(out).map_err(io)
}

/// Everything on disk, or an error: a model directory is complete when it appears.
fn finish(out: BufWriter<File>) -> io::Result<()> {
    out.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()
}

fn key_and_length(out: &mut Vec<u8>, key: u8, length: usize) {
    out.push(key);
    prost::encode_length_delimiter(length, out).expect("a Vec grows");
}
