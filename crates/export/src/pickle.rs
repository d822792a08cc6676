//! The pickle in an archive of `torch.save`, read for the tensors that it names.
//!
//! A file of its own because a pickle is a program. This one is not run: the opcodes that torch
//! writes build values in flat arenas, the calls that rebuild tensors are known by name, and any
//! other call gives an opaque value.

use std::collections::BTreeMap;

use safetensors::Dtype;

/// A value; what is compound lies in the machine's arenas, so that no value owns another.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Value {
    Mark,
    /// None, numbers with fractions, and whatever calls made that are not known here.
    Opaque,
    Int(i64),
    Text(usize),
    Global(usize),
    /// A tuple or a list.
    Items(usize),
    Dict(usize),
    Storage(usize),
    Tensor(usize),
}

#[derive(Debug)]
pub struct Storage {
    /// Name of its file in the archive.
    pub key: String,
    pub dtype: Dtype,
}

/// A tensor: a view of a storage. Offset and strides are in elements.
#[derive(Debug)]
pub struct View {
    /// Index in [`Machine::storages`].
    pub storage: usize,
    pub offset: usize,
    pub shape: Vec<usize>,
    pub strides: Vec<usize>,
}

/// What reads a pickle: its stack, and everything that was on it.
#[derive(Default)]
pub struct Machine {
    stack: Vec<Value>,
    memo: BTreeMap<u32, Value>,
    texts: Vec<String>,
    items: Vec<Vec<Value>>,
    dicts: Vec<Vec<(Value, Value)>>,
    pub storages: Vec<Storage>,
    tensors: Vec<View>,
}

/// The bytes of a pickle that are still to be read.
struct Code<'a>(&'a [u8]);

impl<'a> Code<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], String> {
        let (head, rest) = self.0.split_at_checked(length).ok_or("the pickle ends too early")?;
        self.0 = rest;
        Ok(head)
    }

    fn byte(&mut self) -> Result<u8, String> {
        Ok(self.take(1)?[0])
    }

    /// A little-endian number of `length` bytes, at most 8.
    fn number(&mut self, length: usize) -> Result<u64, String> {
        let mut bytes = [0; 8];
        bytes.get_mut(..length).ok_or("a number is too long")?.copy_from_slice(self.take(length)?);
        Ok(u64::from_le_bytes(bytes))
    }

    fn line(&mut self) -> Result<String, String> {
        let end = self.0.iter().position(|&b| b == b'\n').ok_or("the pickle ends too early")?;
        let line = self.take(end + 1)?;
        Ok(String::from_utf8_lossy(&line[..end]).into_owned())
    }

    fn text(&mut self, length: u64) -> Result<String, String> {
        let bytes = self.take(usize::try_from(length).unwrap_or(usize::MAX))?;
        String::from_utf8(bytes.to_vec()).map_err(|_| "a name is no UTF-8".into())
    }
}

impl Machine {
    /// Reads a whole pickle.
    pub fn run(pickle: &[u8]) -> Result<Self, String> {
        let mut machine = Self::default();
        let mut code = Code(pickle);
        loop {
            match code.byte()? {
                b'.' => return Ok(machine),
                operation => machine.step(operation, &mut code)?,
            }
        }
    }

    fn step(&mut self, operation: u8, code: &mut Code<'_>) -> Result<(), String> {
        match operation {
            0x80 => drop(code.byte()?),  // PROTO
            0x95 => drop(code.take(8)?), // FRAME
            b'(' => self.stack.push(Value::Mark),
            b'N' | 0x88 | 0x89 => self.stack.push(Value::Opaque), // None, True, False
            b'G' => {
                code.take(8)?;
                self.stack.push(Value::Opaque);
            }
            b'J' => {
                let number = code.number(4)? as u32 as i32;
                self.stack.push(Value::Int(number.into()));
            }
            b'K' => {
                let number = code.number(1)?;
                self.stack.push(Value::Int(number as i64));
            }
            b'M' => {
                let number = code.number(2)?;
                self.stack.push(Value::Int(number as i64));
            }
            0x8a => {
                let length = usize::from(code.byte()?);
                let number = code.number(length)?;
                let unused = 64 - 8 * length as u32;
                let signed = if length == 0 { 0 } else { (number << unused) as i64 >> unused };
                self.stack.push(Value::Int(signed));
            }
            b'X' => {
                let length = code.number(4)?;
                let text = code.text(length)?;
                self.push_text(text);
            }
            0x8c => {
                let length = code.number(1)?;
                let text = code.text(length)?;
                self.push_text(text);
            }
            b'c' => {
                let name = format!("{}.{}", code.line()?, code.line()?);
                self.texts.push(name);
                self.stack.push(Value::Global(self.texts.len() - 1));
            }
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                let name = format!("{}.{}", self.text(module)?, self.text(name)?);
                self.texts.push(name);
                self.stack.push(Value::Global(self.texts.len() - 1));
            }
            b')' | b']' => self.push_items(Vec::new()),
            b't' | b'l' => {
                let values = self.pop_to_mark()?;
                self.push_items(values);
            }
            0x85..=0x87 => {
                let count = usize::from(operation - 0x84);
                let at = self.stack.len().checked_sub(count).ok_or(EMPTY)?;
                let values = self.stack.split_off(at);
                self.push_items(values);
            }
            b'}' => self.push_dict(Vec::new()),
            b'd' => {
                let values = self.pop_to_mark()?;
                self.push_dict(pairs(&values));
            }
            b'a' => {
                let value = self.pop()?;
                self.extend(&[value])?;
            }
            b'e' => {
                let values = self.pop_to_mark()?;
                self.extend(&values)?;
            }
            b's' => {
                let (value, key) = (self.pop()?, self.pop()?);
                self.set(&[(key, value)])?;
            }
            b'u' => {
                let values = self.pop_to_mark()?;
                self.set(&pairs(&values))?;
            }
            b'q' => self.remember(code, 1)?,
            b'r' => self.remember(code, 4)?,
            0x94 => {
                let value = *self.stack.last().ok_or(EMPTY)?;
                self.memo.insert(self.memo.len() as u32, value);
            }
            b'h' => self.recall(code, 1)?,
            b'j' => self.recall(code, 4)?,
            b'0' => drop(self.pop()?),
            b'Q' => {
                let id = self.pop()?;
                let storage = self.storage(id)?;
                self.stack.push(storage);
            }
            b'R' | 0x81 => {
                let (arguments, callable) = (self.pop()?, self.pop()?);
                let made = self.call(callable, arguments)?;
                self.stack.push(made);
            }
            b'b' => drop(self.pop()?), // attributes of an object, such as a state dict's versions
            other => return Err(format!("the pickle has the opcode {other:#04x}")),
        }
        Ok(())
    }

    fn push_text(&mut self, text: String) {
        self.texts.push(text);
        self.stack.push(Value::Text(self.texts.len() - 1));
    }

    fn push_items(&mut self, values: Vec<Value>) {
        self.items.push(values);
        self.stack.push(Value::Items(self.items.len() - 1));
    }

    fn push_dict(&mut self, pairs: Vec<(Value, Value)>) {
        self.dicts.push(pairs);
        self.stack.push(Value::Dict(self.dicts.len() - 1));
    }

    fn pop(&mut self) -> Result<Value, String> {
        self.stack.pop().ok_or_else(|| EMPTY.into())
    }

    fn pop_to_mark(&mut self) -> Result<Vec<Value>, String> {
        let mark = self.stack.iter().rposition(|value| *value == Value::Mark);
        let mark = mark.ok_or("the pickle lacks a mark")?;
        let values = self.stack.split_off(mark + 1);
        self.stack.pop();
        Ok(values)
    }

    fn extend(&mut self, values: &[Value]) -> Result<(), String> {
        match self.stack.last() {
            Some(&Value::Items(list)) => self.items[list].extend(values),
            Some(Value::Opaque) => {}
            _ => return Err("the pickle appends to no list".into()),
        }
        Ok(())
    }

    fn set(&mut self, pairs: &[(Value, Value)]) -> Result<(), String> {
        match self.stack.last() {
            Some(&Value::Dict(dict)) => self.dicts[dict].extend(pairs),
            Some(Value::Opaque) => {}
            _ => return Err("the pickle sets a key of no dictionary".into()),
        }
        Ok(())
    }

    fn remember(&mut self, code: &mut Code<'_>, length: usize) -> Result<(), String> {
        let at = code.number(length)? as u32;
        let value = *self.stack.last().ok_or(EMPTY)?;
        self.memo.insert(at, value);
        Ok(())
    }

    fn recall(&mut self, code: &mut Code<'_>, length: usize) -> Result<(), String> {
        let at = code.number(length)? as u32;
        let value = *self.memo.get(&at).ok_or("the pickle recalls what it never stored")?;
        self.stack.push(value);
        Ok(())
    }

    fn text(&self, value: Value) -> Result<&str, String> {
        match value {
            Value::Text(at) | Value::Global(at) => Ok(&self.texts[at]),
            other => Err(format!("the pickle has {other:?} for a name")),
        }
    }

    fn items(&self, value: Value) -> Result<&[Value], String> {
        match value {
            Value::Items(at) => Ok(&self.items[at]),
            other => Err(format!("the pickle has {other:?} for a tuple")),
        }
    }

    fn sizes(&self, value: Value) -> Result<Vec<usize>, String> {
        self.items(value)?.iter().map(|&value| size(value)).collect()
    }

    /// `("storage", class, key, location, length)`
    fn storage(&mut self, id: Value) -> Result<Value, String> {
        let &[_, class, key, ..] = self.items(id)? else {
            return Err("the pickle names a storage in an unknown way".into());
        };
        let dtype = match self.text(class)?.rsplit('.').next().unwrap_or_default() {
            "FloatStorage" => Dtype::F32,
            "HalfStorage" => Dtype::F16,
            "BFloat16Storage" => Dtype::BF16,
            "DoubleStorage" => Dtype::F64,
            "LongStorage" => Dtype::I64,
            "IntStorage" => Dtype::I32,
            "ShortStorage" => Dtype::I16,
            "CharStorage" => Dtype::I8,
            "ByteStorage" => Dtype::U8,
            "BoolStorage" => Dtype::BOOL,
            other => return Err(format!("tensors of torch's {other} are not supported")),
        };
        let key = self.text(key)?.to_owned();
        self.storages.push(Storage { key, dtype });
        Ok(Value::Storage(self.storages.len() - 1))
    }

    fn call(&mut self, callable: Value, arguments: Value) -> Result<Value, String> {
        let Value::Global(name) = callable else { return Ok(Value::Opaque) };
        match self.texts[name].as_str() {
            "collections.OrderedDict" => {
                self.dicts.push(Vec::new());
                Ok(Value::Dict(self.dicts.len() - 1))
            }
            "torch._utils._rebuild_tensor_v2" => {
                let &[Value::Storage(storage), offset, shape, strides, ..] =
                    self.items(arguments)?
                else {
                    return Err("the pickle rebuilds a tensor in an unknown way".into());
                };
                let (offset, shape) = (size(offset)?, self.sizes(shape)?);
                let strides = self.sizes(strides)?;
                if shape.len() != strides.len() {
                    return Err("the pickle has a tensor whose strides are not its shape's".into());
                }
                self.tensors.push(View { storage, offset, shape, strides });
                Ok(Value::Tensor(self.tensors.len() - 1))
            }
            "torch._utils._rebuild_parameter" => {
                Ok(self.items(arguments)?.first().copied().unwrap_or(Value::Opaque))
            }
            "torch._tensor._rebuild_from_type_v2" => match *self.items(arguments)? {
                [inner @ Value::Global(at), _, arguments, ..]
                    if self.texts[at] == "torch._utils._rebuild_tensor_v2" =>
                {
                    self.call(inner, arguments)
                }
                _ => Ok(Value::Opaque),
            },
            _ => Ok(Value::Opaque),
        }
    }

    /// Names and tensors of the state dict: the dictionary that the pickle makes, or that one's
    /// `state_dict`.
    pub fn state_dict(&self) -> Result<Vec<(&str, &View)>, String> {
        let Some(&Value::Dict(root)) = self.stack.last() else {
            return Err("it holds no dictionary of tensors".into());
        };
        let inner = self.dicts[root].iter().find_map(|&(key, value)| match (key, value) {
            (Value::Text(key), Value::Dict(dict)) if self.texts[key] == "state_dict" => Some(dict),
            _ => None,
        });
        let tensors = |&(key, value): &(Value, Value)| match (key, value) {
            (Value::Text(key), Value::Tensor(at)) => {
                Some((self.texts[key].as_str(), &self.tensors[at]))
            }
            _ => None,
        };
        Ok(self.dicts[inner.unwrap_or(root)].iter().filter_map(tensors).collect())
    }
}

const EMPTY: &str = "the pickle takes from an empty stack";

fn pairs(values: &[Value]) -> Vec<(Value, Value)> {
    values.as_chunks().0.iter().map(|&[key, value]| (key, value)).collect()
}

fn size(value: Value) -> Result<usize, String> {
    match value {
        Value::Int(number) => {
            usize::try_from(number).map_err(|_| format!("the pickle has {number} for a size"))
        }
        other => Err(format!("the pickle has {other:?} for a size")),
    }
}
