//! Frees the batch of a graph that was traced with one item: exporters write that one into shapes
//! all over the graph.
//!
//! What is done is a guess that a probe has to confirm: the first axis of inputs and output is given
//! a name; in each shape that a `Reshape` is given, the length that the batch is part of becomes "as
//! many as there are"; and a constant that is joined to the items along another axis (the class
//! token) is repeated for each. Numbers with two items that are not those of each alone tell that the
//! guess was wrong, and then the graph stays as it was.

use std::collections::{HashMap, HashSet};

use super::graph::{Node, attribute, body, node, tensor};
use super::wire::{Field, Message};

/// The name of the freed axis.
const NAME: &str = "N";
const INT64: i64 = 7;

/// Frees the batch of a graph's message, whose nodes and constants are messages.
pub(super) fn free(whole: &mut Message) {
    for (number, field) in &mut whole.fields {
        if matches!(*number, body::INPUT | body::OUTPUT)
            && let Field::Message(value) = field
        {
            free_first_axis(value);
        }
    }
    let mut constants = HashMap::new();
    let mut varying: HashSet<String> = HashSet::new();
    for (number, field) in &whole.fields {
        let Field::Message(message) = field else { continue };
        match *number {
            body::INITIALIZER => {
                if let Some(values) = integers(message) {
                    constants.insert(message.text(tensor::NAME).to_owned(), values);
                }
            }
            body::INPUT => drop(varying.insert(message.text(1).to_owned())),
            _ => {}
        }
    }
    let mut added = Vec::new();
    let mut at = 0;
    while at < whole.fields.len() {
        let (number, field) = &mut whole.fields[at];
        at += 1;
        let (body::NODE, Field::Message(message)) = (*number, field) else { continue };
        let Some(node) = Node::of(message) else { continue };
        if node.op == "Constant"
            && let Some(values) = constant(message)
        {
            constants.extend(node.outputs.first().map(|name| (name.clone(), values)));
        }
        let varies = |name: &String| varying.contains(name);
        if !node.inputs.iter().any(varies) && node.inner.is_empty() {
            continue;
        }
        match node.op.as_str() {
            "Reshape" => {
                let shape = node.inputs.get(1).and_then(|name| constants.get(name));
                if let Some(freed) = shape.and_then(|shape| freed_shape(shape)) {
                    let name = format!("pgclip/shape_{}", added.len());
                    set_input(message, 1, &name);
                    added.push((body::INITIALIZER, integers_named(&name, &freed)));
                }
            }
            "Concat" if axis(message) >= 1 => {
                let fixed: Vec<usize> =
                    (0..node.inputs.len()).filter(|&at| !varies(&node.inputs[at])).collect();
                let item = node.inputs.iter().find(|name| varies(name)).cloned();
                if let Some(item) = item {
                    let mut before = Vec::new();
                    for input in fixed {
                        let name = format!("pgclip/repeated_{at}_{input}");
                        set_input(message, input, &name);
                        before.extend(repeat(&node.inputs[input], &item, &name));
                    }
                    at += before.len();
                    let from = at - 1 - before.len();
                    whole.fields.splice(from..from, before);
                }
            }
            _ => {}
        }
        varying.extend(node.outputs);
    }
    whole.fields.extend(added.into_iter().map(|(number, tensor)| (number, Field::Message(tensor))));
}

fn free_first_axis(value: &mut Message) {
    let Some(mut kind) = value.message(2) else { return };
    let Some(mut tensor) = kind.message(1) else { return };
    let Some(mut shape) = tensor.message(2) else { return };
    if let Some((_, axis)) = shape.fields.iter_mut().find(|(number, _)| *number == 1) {
        let mut named = Message::default();
        named.put_text(2, NAME);
        *axis = Field::Message(named);
    }
    replace(&mut tensor, 2, shape);
    replace(&mut kind, 1, tensor);
    replace(value, 2, kind);
}

fn replace<'a>(message: &mut Message<'a>, number: u32, with: Message<'a>) {
    message.remove(number);
    message.put_message(number, with);
}

/// A shape whose length that the batch is in is left open; `None` where there is nothing to do. One
/// that has an open length already gets its first from the input.
fn freed_shape(shape: &[i64]) -> Option<Vec<i64>> {
    let mut freed = shape.to_vec();
    if shape.contains(&-1) {
        let first = freed.first_mut().filter(|first| **first == 1)?;
        *first = 0;
        return Some(freed);
    }
    let one = shape.iter().position(|&length| length == 1);
    // What is left are tokens, heads of all items, and a head's width.
    let at = one.unwrap_or(if shape.len() == 3 { 1 } else { 0 });
    *freed.get_mut(at)? = -1;
    Some(freed)
}

/// Nodes that repeat `constant`, of three axes, for each item of `item`.
fn repeat<'a>(constant: &str, item: &str, name: &str) -> Vec<(u32, Field<'a>)> {
    let part = |part: &str| format!("{name}/{part}");
    let made = |op: &str, inputs: &[&str], output: &str, axis: Option<i64>| {
        let mut message = Message::default();
        inputs.iter().for_each(|input| message.put_text(node::INPUT, input));
        message.put_text(node::OUTPUT, output);
        message.put_text(3, output);
        message.put_text(node::OP_TYPE, op);
        if let Some(axis) = axis {
            message.put_message(node::ATTRIBUTE, integer_attribute("axis", axis));
        }
        (body::NODE, Field::Message(message))
    };
    let literal = |name: &str, values: &[i64]| {
        let mut attribute = Message::default();
        attribute.put_text(attribute::NAME, "value");
        attribute.put_message(attribute::T, integers_named("", values));
        attribute.put_number(20, 4);
        let mut message = Message::default();
        message.put_text(node::OUTPUT, name);
        message.put_text(3, name);
        message.put_text(node::OP_TYPE, "Constant");
        message.put_message(node::ATTRIBUTE, attribute);
        (body::NODE, Field::Message(message))
    };
    vec![
        made("Shape", &[item], &part("shape"), None),
        literal(&part("zero"), &[0]),
        made("Gather", &[&part("shape"), &part("zero")], &part("items"), Some(0)),
        literal(&part("ones"), &[1, 1]),
        made("Concat", &[&part("items"), &part("ones")], &part("lengths"), Some(0)),
        made("Expand", &[constant, &part("lengths")], name, None),
    ]
}

fn integer_attribute<'a>(name: &str, value: i64) -> Message<'a> {
    let mut attribute = Message::default();
    attribute.put_text(attribute::NAME, name);
    attribute.put_number(attribute::I, value);
    attribute.put_number(20, 2);
    attribute
}

fn integers_named<'a>(name: &str, values: &[i64]) -> Message<'a> {
    let mut tensor = Message::default();
    tensor.put_number(tensor::DIMS, values.len() as i64);
    tensor.put_number(tensor::DATA_TYPE, INT64);
    if !name.is_empty() {
        tensor.put_text(tensor::NAME, name);
    }
    let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    tensor.fields.push((tensor::RAW_DATA, Field::Owned(bytes)));
    tensor
}

/// The values of a short list of integers.
fn integers(tensor: &Message) -> Option<Vec<i64>> {
    if tensor.number(tensor::DATA_TYPE)? != INT64 as u64 || tensor.numbers(tensor::DIMS)?.len() != 1
    {
        return None;
    }
    match tensor.bytes(tensor::RAW_DATA) {
        Some(bytes) => {
            let (numbers, rest) = bytes.as_chunks::<8>();
            rest.is_empty().then(|| numbers.iter().map(|&b| i64::from_le_bytes(b)).collect())
        }
        None => tensor.numbers(tensor::INT64_DATA),
    }
}

/// The value of a node that is a constant list of integers.
fn constant(message: &Message) -> Option<Vec<i64>> {
    let attributes = message.all(node::ATTRIBUTE).filter_map(Message::parse);
    let mut values = attributes.filter(|attribute| attribute.text(attribute::NAME) == "value");
    integers(&values.next()?.message(attribute::T)?)
}

fn axis(message: &Message) -> i64 {
    let mut attributes = message.all(node::ATTRIBUTE).filter_map(Message::parse);
    let axis = attributes.find(|attribute| attribute.text(attribute::NAME) == "axis");
    axis.and_then(|axis| axis.number(attribute::I)).unwrap_or(0) as i64
}

fn set_input(message: &mut Message, at: usize, name: &str) {
    let inputs = message.fields.iter_mut().filter(|(number, _)| *number == node::INPUT);
    if let Some((_, field)) = inputs.into_iter().nth(at) {
        *field = Field::Owned(name.as_bytes().to_vec());
    }
}
