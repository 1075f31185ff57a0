//! The pickle machine, without the parts that can run anything.
//!
//! Values are in arenas and are referred to by index, so nothing recurses and nothing is freed in a
//! chain. Every value is counted, and strings are slices of the file, so memory is bounded for any
//! file.

use std::collections::HashMap;

use super::code::{Code, signed};
use super::globals::Global;
use super::stream::storage_of;
use super::value::{Storage, Tensor, Value};
use crate::convert::element_type::ElementType;
use crate::error::{Error, Result};

/// Values made and remembered in one pickle; GPT-2 of 48 layers needs about 20,000.
const MAX_VALUES: usize = 1 << 19;
/// The same for the description of one storage, which has about 20.
const MAX_STORAGE_VALUES: usize = 256;
/// Axes of a tensor accepted.
const MAX_AXES: usize = 8;
/// Storages inside a pickle accepted; GPT-2 of 48 layers has 600.
const MAX_EMBEDDED: usize = 1 << 14;
/// The longest name of a global shown.
const MAX_NAME_BYTES: usize = 200;

/// The machine, and after a run what was made.
pub(super) struct Machine<'a> {
    /// The pickle, for what is inside it.
    all: &'a [u8],
    /// Values that may be made.
    most: usize,
    /// Whether the pickle may have storages inside it.
    may_embed: bool,
    stack: Vec<Value<'a>>,
    /// Heights of the stack where a mark was set.
    marks: Vec<usize>,
    memo: HashMap<u32, Value<'a>>,
    made: usize,
    sequences: Vec<Vec<Value<'a>>>,
    dictionaries: Vec<Vec<(Value<'a>, Value<'a>)>>,
    storages: Vec<Storage<'a>>,
    tensors: Vec<Tensor>,
    /// The attributes of objects beside the state dict, where they are set.
    objects: Vec<Value<'a>>,
}

impl<'a> Machine<'a> {
    /// A machine for the pickle of a state dict.
    pub(super) fn new() -> Self {
        Self::with_limits(MAX_VALUES, true)
    }

    /// A machine for the few values that describe a storage inside another pickle.
    pub(super) fn for_storage() -> Self {
        Self::with_limits(MAX_STORAGE_VALUES, false)
    }

    fn with_limits(most: usize, may_embed: bool) -> Self {
        Self {
            all: &[],
            most,
            may_embed,
            stack: Vec::new(),
            marks: Vec::new(),
            memo: HashMap::new(),
            made: 0,
            sequences: Vec::new(),
            dictionaries: Vec::new(),
            storages: Vec::new(),
            tensors: Vec::new(),
            objects: Vec::new(),
        }
    }

    /// Runs the pickle at the start of `bytes`. Returns its value and its length in bytes.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for a global or an instruction that no state dict has;
    /// [`Error::Format`] for a broken pickle.
    pub(super) fn run(&mut self, bytes: &'a [u8]) -> Result<(Value<'a>, usize)> {
        let mut code = Code::new(bytes);
        self.all = bytes;
        loop {
            let start = code.position;
            let instruction = code.unsigned(1)? as u8;
            if instruction == b'.' {
                let value = self.pop(&code)?;
                return Ok((value, code.position));
            }
            if !(self.push_constant(instruction, &mut code)?
                || self.build(instruction, &code)?
                || self.remember(instruction, &mut code)?
                || self.call(instruction, &mut code)?)
            {
                code.position = start;
                return Err(code.broken(format!(
                    "instruction 0x{instruction:02x}, which no state dict has"
                )));
            }
        }
    }

    /// The items of a sequence.
    pub(super) fn sequence(&self, value: Value) -> Option<&[Value<'a>]> {
        match value {
            Value::Sequence(number) => self.sequences.get(number).map(Vec::as_slice),
            _ => None,
        }
    }

    /// The entries of a dictionary, in the order they were set.
    pub(super) fn dictionary(&self, value: Value) -> Option<&[(Value<'a>, Value<'a>)]> {
        match value {
            Value::Dictionary(number) => self.dictionaries.get(number).map(Vec::as_slice),
            _ => None,
        }
    }

    /// The attributes of an object beside the state dict, as they are set on it.
    pub(super) fn attributes(&self, value: Value) -> Option<&[(Value<'a>, Value<'a>)]> {
        match value {
            Value::Object(number) => self.dictionary(*self.objects.get(number)?),
            _ => None,
        }
    }

    /// A tensor and its storage.
    pub(super) fn tensor(&self, value: Value) -> Option<(&Tensor, &Storage<'a>)> {
        let Value::Tensor(number) = value else {
            return None;
        };
        let tensor = self.tensors.get(number)?;
        Some((tensor, self.storages.get(tensor.storage)?))
    }

    /// Every storage that was referred to.
    pub(super) fn storages(&self) -> &[Storage<'a>] {
        &self.storages
    }

    /// Numbers, texts and empty containers. Returns whether the instruction is one of these.
    fn push_constant(&mut self, instruction: u8, code: &mut Code<'a>) -> Result<bool> {
        let value = match instruction {
            // PROTO and FRAME say how the pickle was written.
            0x80 => return code.take(1).map(|_| true),
            0x95 => return code.take(8).map(|_| true),
            b'N' => Value::None,
            0x88 => Value::Bool(true),
            0x89 => Value::Bool(false),
            b'K' => Value::Integer(code.unsigned(1)? as i64),
            b'M' => Value::Integer(code.unsigned(2)? as i64),
            b'J' => Value::Integer(i64::from(code.unsigned(4)? as u32 as i32)),
            b'G' => {
                code.take(8)?;
                Value::Number
            }
            0x8a | 0x8b => {
                let length = code.length(if instruction == 0x8a { 1 } else { 4 })?;
                signed(code.take(length)?).map_or(Value::Number, Value::Integer)
            }
            // Texts, and the byte strings Python 2 had for them.
            b'X' | b'T' => Value::Text(code.text(4)?),
            0x8c | b'U' => Value::Text(code.text(1)?),
            0x8d => Value::Text(code.text(8)?),
            b'C' => skipped(code, 1)?,
            b'B' => skipped(code, 4)?,
            0x8e | 0x96 => skipped(code, 8)?,
            // A tuple, a list, a set.
            b')' | b']' | 0x8f => self.new_sequence(Vec::new()),
            b'}' => self.new_dictionary(),
            _ => return Ok(false),
        };
        self.push(value, code)?;
        Ok(true)
    }

    /// Containers from what is on the stack. Returns whether the instruction is one of these.
    fn build(&mut self, instruction: u8, code: &Code<'a>) -> Result<bool> {
        match instruction {
            b'(' => {
                self.count(code)?;
                self.marks.push(self.stack.len());
            }
            // The last makes a frozen set.
            b't' | b'l' | 0x91 => {
                let items = self.pop_to_mark(code)?;
                self.push_sequence(items, code)?;
            }
            0x85..=0x87 => {
                let count = usize::from(instruction - 0x84);
                let start = self.above_mark(count, code)?;
                let items = self.stack.split_off(start);
                self.push_sequence(items, code)?;
            }
            b'd' => {
                let items = self.pop_to_mark(code)?;
                let dictionary = self.new_dictionary();
                self.push(dictionary, code)?;
                self.set_items(&items, code)?;
            }
            b'a' | b'e' | 0x90 => {
                let items = self.pop_items(instruction == b'a', 1, code)?;
                self.append(items, code)?;
            }
            b's' | b'u' => {
                let items = self.pop_items(instruction == b's', 2, code)?;
                self.set_items(&items, code)?;
            }
            b'0' => {
                self.pop(code)?;
            }
            b'1' => {
                self.pop_to_mark(code)?;
            }
            b'2' => {
                let top = self.pop(code)?;
                self.push(top, code)?;
                self.push(top, code)?;
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// The memo. Returns whether the instruction is one of its.
    fn remember(&mut self, instruction: u8, code: &mut Code<'a>) -> Result<bool> {
        let number = match instruction {
            b'q' | b'h' => code.unsigned(1)? as u32,
            b'r' | b'j' => code.unsigned(4)? as u32,
            0x94 => self.memo.len() as u32,
            _ => return Ok(false),
        };
        if matches!(instruction, b'h' | b'j') {
            let value = self.memo.get(&number).copied();
            let value = value.ok_or_else(|| code.broken(format!("the memo has no {number}")))?;
            self.push(value, code)?;
        } else {
            let value = self.pop(code)?;
            self.push(value, code)?;
            self.count(code)?;
            self.memo.insert(number, value);
        }
        Ok(true)
    }

    /// Globals, and the calls of them that a state dict has. Returns whether the instruction is
    /// one.
    fn call(&mut self, instruction: u8, code: &mut Code<'a>) -> Result<bool> {
        match instruction {
            // INST names a class as GLOBAL does; none of ours is made so.
            b'c' | b'i' => {
                let (module, name) = (code.line()?, code.line()?);
                self.push_global(module, name, code)?;
                if instruction == b'i' {
                    return Ok(false);
                }
            }
            0x93 => {
                let (name, module) = (self.pop(code)?, self.pop(code)?);
                let (Value::Text(module), Value::Text(name)) = (module, name) else {
                    return Err(code.broken("expected the name of a global"));
                };
                self.push_global(module, name, code)?;
            }
            // REDUCE, and NEWOBJ, which differs only in how Python makes the object.
            b'R' | 0x81 => {
                let (arguments, callee) = (self.pop(code)?, self.pop(code)?);
                let made = self.made_by(callee, arguments, code)?;
                self.push(made, code)?;
            }
            // NEWOBJ_EX, with arguments by name.
            0x92 => {
                self.pop(code)?;
                let (arguments, callee) = (self.pop(code)?, self.pop(code)?);
                let made = self.made_by(callee, arguments, code)?;
                self.push(made, code)?;
            }
            // BUILD gives an object attributes. Those of a state dict and of parameters are notes.
            b'b' => {
                let attributes = self.pop(code)?;
                let object = self.pop(code)?;
                match object {
                    Value::Dictionary(_) | Value::Tensor(_) => {}
                    Value::Object(number) => {
                        if let Some(object) = self.objects.get_mut(number) {
                            *object = attributes;
                        }
                    }
                    _ => return Err(code.broken("attributes for something that has none")),
                }
                self.push(object, code)?;
            }
            b'Q' => {
                let id = self.pop(code)?;
                let storage = self
                    .storage(id)
                    .ok_or_else(|| code.broken("a reference to something that is no storage"))?;
                self.storages.push(storage);
                self.push(Value::Storage(self.storages.len() - 1), code)?;
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn push_global(&mut self, module: &str, name: &str, code: &Code<'a>) -> Result<()> {
        let global = Global::find(module, name).ok_or_else(|| {
            let full = format!("{module}.{name}");
            let shown: String = full.escape_debug().take(MAX_NAME_BYTES).collect();
            Error::Unsupported(format!(
                "the pickle asks for '{shown}': not a state dict of tensors, and nothing of it \
                 was run"
            ))
        })?;
        self.push(Value::Global(global), code)
    }

    /// What calling `callee` would make.
    fn made_by(
        &mut self,
        callee: Value<'a>,
        arguments: Value<'a>,
        code: &Code<'a>,
    ) -> Result<Value<'a>> {
        let wrong = |what: &str| code.broken(format!("{what} of arguments that do not fit"));
        let arguments = self.sequence(arguments).unwrap_or_default();
        match callee {
            Value::Global(Global::Dictionary) => {
                // Python 2 gives the entries as a list of pairs.
                let pairs = arguments.first().and_then(|list| self.sequence(*list));
                let pairs = pairs.unwrap_or_default();
                // The list may have been used before, so its items count again.
                if self.made + pairs.len() > self.most {
                    return Err(too_many(code));
                }
                let entries = pairs
                    .iter()
                    .map(|pair| match self.sequence(*pair) {
                        Some([key, value]) => Ok((*key, *value)),
                        _ => Err(wrong("a dictionary")),
                    })
                    .collect::<Result<Vec<_>>>()?;
                self.made += entries.len();
                self.dictionaries.push(entries);
                Ok(Value::Dictionary(self.dictionaries.len() - 1))
            }
            Value::Global(Global::Tensor) => {
                let tensor = self.described(arguments).ok_or_else(|| wrong("a tensor"))?;
                self.tensors.push(tensor);
                Ok(Value::Tensor(self.tensors.len() - 1))
            }
            Value::Global(Global::Parameter) => match arguments.first() {
                Some(tensor @ Value::Tensor(_)) => Ok(*tensor),
                _ => Err(wrong("a parameter")),
            },
            Value::Global(Global::Embedded) => {
                let storage = self.embedded(arguments, code)?;
                self.storages.push(storage);
                Ok(Value::Storage(self.storages.len() - 1))
            }
            Value::Global(Global::Beside) => {
                self.objects.push(Value::None);
                Ok(Value::Object(self.objects.len() - 1))
            }
            _ => Err(code.broken("a call of something that is not called")),
        }
    }

    /// A tensor from storage, offset, sizes and strides.
    fn described(&self, arguments: &[Value<'a>]) -> Option<Tensor> {
        let [storage, offset, shape, strides, ..] = arguments else {
            return None;
        };
        let Value::Storage(storage) = *storage else {
            return None;
        };
        let sizes = |value: Value| -> Option<Vec<u64>> {
            let sizes = self.sequence(value)?;
            (sizes.len() <= MAX_AXES).then_some(())?;
            sizes.iter().copied().map(unsigned).collect()
        };
        Some(Tensor {
            storage,
            offset: unsigned(*offset)?,
            shape: sizes(*shape)?,
            strides: sizes(*strides)?,
        })
    }

    /// A storage from `("storage", class, key, device, elements)`; in the older stream followed by
    /// `None` or `(name, first element, elements)` of a part.
    fn storage(&self, id: Value) -> Option<Storage<'a>> {
        let [
            Value::Text("storage"),
            Value::Global(Global::Storage(element)),
            Value::Text(key),
            _,
            elements,
            part @ ..,
        ] = self.sequence(id)?
        else {
            return None;
        };
        let whole = Storage {
            key,
            element: ElementType::from_name(element)?,
            elements: unsigned(*elements)?,
            first: 0,
            inside: None,
        };
        match part {
            [] | [Value::None] => Some(whole),
            [part] => match self.sequence(*part)? {
                [_, first, _] => Some(Storage {
                    first: unsigned(*first)?,
                    ..whole
                }),
                _ => None,
            },
            _ => None,
        }
    }

    /// A storage from the bytes that hold its stream.
    fn embedded(&self, arguments: &[Value<'a>], code: &Code<'a>) -> Result<Storage<'a>> {
        let wrong = || {
            code.broken(
                "torch.storage._load_from_bytes of something that is no storage inside this pickle",
            )
        };
        let (true, [Value::Bytes(start, length)]) = (self.may_embed, arguments) else {
            return Err(wrong());
        };
        if self.storages.len() >= MAX_EMBEDDED {
            return Err(code.broken(format!(
                "more than {MAX_EMBEDDED} storages inside a pickle, which no GPT-2 has"
            )));
        }
        let end = start.checked_add(*length);
        let bytes = end.and_then(|end| self.all.get(*start..end));
        storage_of(bytes.ok_or_else(wrong)?, *start)
    }

    fn new_sequence(&mut self, items: Vec<Value<'a>>) -> Value<'a> {
        self.sequences.push(items);
        Value::Sequence(self.sequences.len() - 1)
    }

    fn push_sequence(&mut self, items: Vec<Value<'a>>, code: &Code<'a>) -> Result<()> {
        let sequence = self.new_sequence(items);
        self.push(sequence, code)
    }

    fn new_dictionary(&mut self) -> Value<'a> {
        self.dictionaries.push(Vec::new());
        Value::Dictionary(self.dictionaries.len() - 1)
    }

    fn count(&mut self, code: &Code<'a>) -> Result<()> {
        self.made += 1;
        if self.made > self.most {
            return Err(too_many(code));
        }
        Ok(())
    }

    fn push(&mut self, value: Value<'a>, code: &Code<'a>) -> Result<()> {
        self.count(code)?;
        self.stack.push(value);
        Ok(())
    }

    /// Where the topmost `count` values begin; a mark must not be among them.
    fn above_mark(&self, count: usize, code: &Code<'a>) -> Result<usize> {
        let floor = self.marks.last().copied().unwrap_or(0);
        self.stack
            .len()
            .checked_sub(count)
            .filter(|start| *start >= floor)
            .ok_or_else(|| code.broken("the stack is empty"))
    }

    fn pop(&mut self, code: &Code<'a>) -> Result<Value<'a>> {
        self.above_mark(1, code)?;
        self.stack
            .pop()
            .ok_or_else(|| code.broken("the stack is empty"))
    }

    fn pop_to_mark(&mut self, code: &Code<'a>) -> Result<Vec<Value<'a>>> {
        let mark = self.marks.pop();
        let mark = mark.filter(|mark| *mark <= self.stack.len());
        let mark = mark.ok_or_else(|| code.broken("there is no mark on the stack"))?;
        Ok(self.stack.split_off(mark))
    }

    /// The topmost `count` values, or all above the mark.
    fn pop_items(&mut self, fixed: bool, count: usize, code: &Code<'a>) -> Result<Vec<Value<'a>>> {
        if fixed {
            let start = self.above_mark(count, code)?;
            return Ok(self.stack.split_off(start));
        }
        self.pop_to_mark(code)
    }

    /// Appends to the list on top of the stack.
    fn append(&mut self, items: Vec<Value<'a>>, code: &Code<'a>) -> Result<()> {
        let start = self.above_mark(1, code)?;
        let list = match self.stack.get(start) {
            // Of an object beside the state dict nothing is kept but its attributes.
            Some(Value::Object(_)) => return Ok(()),
            Some(Value::Sequence(number)) => self.sequences.get_mut(*number),
            _ => None,
        };
        list.ok_or_else(|| code.broken("items for something that is no list"))?
            .extend(items);
        Ok(())
    }

    /// Sets keys and values, in turn, in the dictionary on top of the stack.
    fn set_items(&mut self, items: &[Value<'a>], code: &Code<'a>) -> Result<()> {
        let start = self.above_mark(1, code)?;
        let (pairs, odd) = items.as_chunks::<2>();
        if !odd.is_empty() {
            return Err(code.broken("a key without a value"));
        }
        let top = self.stack.get(start).copied().unwrap_or(Value::None);
        if matches!(top, Value::Object(_)) {
            return Ok(());
        }
        self.entries(top, code)?
            .extend(pairs.iter().map(|[key, value]| (*key, *value)));
        Ok(())
    }

    fn entries(
        &mut self,
        dictionary: Value,
        code: &Code<'a>,
    ) -> Result<&mut Vec<(Value<'a>, Value<'a>)>> {
        let entries = match dictionary {
            Value::Dictionary(number) => self.dictionaries.get_mut(number),
            _ => None,
        };
        entries.ok_or_else(|| code.broken("entries for something that is no dictionary"))
    }
}

/// Bytes after their length, an integer of `width` bytes.
fn skipped<'a>(code: &mut Code<'a>, width: usize) -> Result<Value<'a>> {
    let length = code.length(width)?;
    let start = code.position;
    code.take(length)?;
    Ok(Value::Bytes(start, length))
}

/// An integer that is not negative.
fn unsigned(value: Value) -> Option<u64> {
    match value {
        Value::Integer(number) => u64::try_from(number).ok(),
        _ => None,
    }
}

fn too_many(code: &Code) -> Error {
    code.broken(format!(
        "more than {MAX_VALUES} values, which no state dict of GPT-2 has"
    ))
}
