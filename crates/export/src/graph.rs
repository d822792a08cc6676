//! An ONNX graph under construction: nodes, and initialisers whose bytes are made when the file
//! is written.
//!
//! Opset 20 for `Gelu`, which brings IR version 9; ONNX Runtime 1.17 and later read both.

use std::collections::BTreeMap;

use pgclip_clip::model;

use crate::proto::{
    AttributeProto, AttributeType, DataType, Dimension, NodeProto, TensorShapeProto, TensorType,
    TypeProto, ValueInfoProto, dimension,
};
use crate::tensor::{Element, Recipe};

pub const OPSET: i64 = 20;
pub const IR_VERSION: i64 = 9;

/// How weights are stored and sums are done. Inputs and outputs are fp32 always.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precision {
    #[default]
    Fp32,
    /// Half the size, and the arithmetic in fp16 as well: for GPUs.
    Fp16,
    /// Matrices stored in fp16 and widened as the model is loaded, arithmetic in fp32: half the
    /// size for CPUs, which have no fp16 arithmetic.
    Fp16Storage,
}

impl Precision {
    /// What `clip.json` calls it: the precision of the arithmetic.
    pub fn arithmetic(self) -> model::Precision {
        match self {
            Self::Fp16 => model::Precision::Fp16,
            Self::Fp32 | Self::Fp16Storage => model::Precision::Fp32,
        }
    }
}

/// A value in the graph, by name.
#[derive(Clone, Debug)]
pub struct Value(String);

/// A constant of the graph.
pub struct Initializer<'a> {
    pub name: String,
    pub element: Element,
    pub recipe: Recipe<'a>,
}

/// A length of an input or output: fixed, or named and free.
#[derive(Clone, Copy)]
pub enum Axis<'s> {
    Fixed(usize),
    Free(&'s str),
}

pub struct Graph<'a> {
    pub precision: Precision,
    pub nodes: Vec<NodeProto>,
    pub initializers: Vec<Initializer<'a>>,
    pub inputs: Vec<ValueInfoProto>,
    pub outputs: Vec<ValueInfoProto>,
    /// Prefix of the names of new nodes, for whoever reads a profile.
    scope: String,
    /// Integer constants that are there already.
    integers: BTreeMap<Vec<i64>, Value>,
}

impl<'a> Graph<'a> {
    pub fn new(precision: Precision) -> Self {
        Self {
            precision,
            nodes: Vec::new(),
            initializers: Vec::new(),
            inputs: Vec::new(),
            outputs: Vec::new(),
            scope: String::new(),
            integers: BTreeMap::new(),
        }
    }

    /// The type of the arithmetic.
    pub fn element(&self) -> Element {
        match self.precision {
            Precision::Fp16 => Element::F16,
            Precision::Fp32 | Precision::Fp16Storage => Element::F32,
        }
    }

    /// Number of values in all floating-point constants.
    pub fn parameters(&self) -> u64 {
        let floats = self
            .initializers
            .iter()
            .filter(|initializer| matches!(initializer.element, Element::F32 | Element::F16));
        floats.map(|initializer| initializer.recipe.len() as u64).sum()
    }

    /// Starts a part of the graph.
    pub fn scope(&mut self, scope: impl Into<String>) {
        self.scope = scope.into();
    }

    pub fn input(&mut self, name: &str, element: Element, shape: &[Axis<'_>]) -> Value {
        self.inputs.push(value_info(name, element, shape));
        Value(name.to_owned())
    }

    /// Makes `value` the output called `name`.
    pub fn output(&mut self, value: &Value, name: &str, element: Element, shape: &[Axis<'_>]) {
        self.outputs.push(value_info(name, element, shape));
        let node = self.nodes.iter_mut().rev().find(|node| node.output[0] == value.0);
        node.expect("an output is made by a node").output[0] = name.to_owned();
    }

    /// A node with one output.
    pub fn op(&mut self, kind: &str, inputs: &[&Value], attributes: &[AttributeProto]) -> Value {
        let name = format!("{}/{kind}_{}", self.scope, self.nodes.len());
        self.nodes.push(NodeProto {
            input: inputs.iter().map(|value| value.0.clone()).collect(),
            output: vec![name.clone()],
            name: name.clone(),
            op_type: kind.to_owned(),
            attribute: attributes.to_vec(),
        });
        Value(name)
    }

    pub fn cast(&mut self, value: &Value, to: Element) -> Value {
        self.op("Cast", &[value], &[int("to", data_type(to) as i64)])
    }

    /// A vector or another small constant, in the type of the arithmetic.
    pub fn small(&mut self, name: &str, recipe: Recipe<'a>) -> Value {
        let element = self.element();
        self.initializer(name, element, recipe)
    }

    /// A matrix for use in the arithmetic.
    pub fn matrix(&mut self, name: &str, recipe: Recipe<'a>) -> Value {
        let stored = self.stored(name, recipe);
        if self.precision == Precision::Fp16Storage {
            self.cast(&stored, Element::F32)
        } else {
            stored
        }
    }

    /// A matrix in the type in which it is stored.
    pub fn stored(&mut self, name: &str, recipe: Recipe<'a>) -> Value {
        let element = if self.precision == Precision::Fp32 { Element::F32 } else { Element::F16 };
        self.initializer(name, element, recipe)
    }

    /// A single number in the type of the arithmetic.
    pub fn number(&mut self, value: f32) -> Value {
        let name = format!("number_{value}");
        if !self.initializers.iter().any(|initializer| initializer.name == name) {
            self.small(&name, Recipe::floats(&[], vec![value]));
        }
        Value(name)
    }

    /// A list of integers such as a shape or axes: `i64 [values]`.
    pub fn integers(&mut self, values: &[i64]) -> Value {
        if let Some(value) = self.integers.get(values) {
            return value.clone();
        }
        let name = format!("integers_{}", self.integers.len());
        let recipe = Recipe::ints(&[values.len()], values.to_vec());
        let value = self.initializer(&name, Element::I64, recipe);
        self.integers.insert(values.to_vec(), value.clone());
        value
    }

    pub fn initializer(&mut self, name: &str, element: Element, recipe: Recipe<'a>) -> Value {
        self.initializers.push(Initializer { name: name.to_owned(), element, recipe });
        Value(name.to_owned())
    }
}

pub fn int(name: &str, value: i64) -> AttributeProto {
    attribute(name, AttributeType::Int, |a| a.i = Some(value))
}

pub fn ints(name: &str, values: &[i64]) -> AttributeProto {
    attribute(name, AttributeType::Ints, |a| a.ints = values.to_vec())
}

pub fn float(name: &str, value: f32) -> AttributeProto {
    attribute(name, AttributeType::Float, |a| a.f = Some(value))
}

pub fn text(name: &str, value: &str) -> AttributeProto {
    attribute(name, AttributeType::String, |a| a.s = Some(value.as_bytes().to_vec()))
}

fn attribute(
    name: &str,
    kind: AttributeType,
    fill: impl FnOnce(&mut AttributeProto),
) -> AttributeProto {
    let mut attribute = AttributeProto { name: name.to_owned(), ..Default::default() };
    attribute.set_type(kind);
    fill(&mut attribute);
    attribute
}

/// ONNX's name for the type of an element.
pub fn data_type(element: Element) -> DataType {
    match element {
        Element::F32 => DataType::Float,
        Element::F16 => DataType::Float16,
        Element::I32 => DataType::Int32,
        Element::I64 => DataType::Int64,
    }
}

fn value_info(name: &str, element: Element, shape: &[Axis<'_>]) -> ValueInfoProto {
    let dim = shape
        .iter()
        .map(|axis| match *axis {
            Axis::Fixed(length) => dimension::Value::DimValue(length as i64),
            Axis::Free(name) => dimension::Value::DimParam(name.to_owned()),
        })
        .map(|value| Dimension { value: Some(value) })
        .collect();
    let tensor_type =
        TensorType { elem_type: data_type(element) as i32, shape: Some(TensorShapeProto { dim }) };
    ValueInfoProto {
        name: name.to_owned(),
        r#type: Some(TypeProto { tensor_type: Some(tensor_type) }),
    }
}
