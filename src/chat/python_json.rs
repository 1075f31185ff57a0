//! The filter `tojson` as transformers has it: Python's `json.dumps` with `ensure_ascii` off and
//! nothing escaped for HTML.

use minijinja::value::{Kwargs, Value, ValueKind};
use minijinja::{Error, ErrorKind};

/// The deepest nesting that is written.
const MAX_DEPTH: usize = 64;
/// The longest text that is written.
const MAX_BYTES: usize = 1 << 20;
/// The widest indentation.
const MAX_INDENT: usize = 16;

/// `value | tojson`, with `indent` for lines.
#[allow(
    clippy::needless_pass_by_value,
    reason = "how the engine calls filters"
)]
pub(super) fn filter(value: &Value, options: Kwargs) -> Result<String, Error> {
    let indent: Option<usize> = options.get("indent")?;
    // Already as asked, and no other way is known.
    let _: Option<bool> = options.get("ensure_ascii")?;
    options.assert_all_used()?;
    if indent > Some(MAX_INDENT) {
        return Err(refused("expected an indent of at most 16"));
    }
    let mut writer = Writer {
        text: String::new(),
        indent,
    };
    writer.write(value, 0)?;
    Ok(writer.text)
}

fn refused(message: &'static str) -> Error {
    Error::new(ErrorKind::InvalidOperation, format!("tojson: {message}"))
}

struct Writer {
    text: String,
    indent: Option<usize>,
}

impl Writer {
    fn write(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        if depth > MAX_DEPTH || self.text.len() > MAX_BYTES {
            return Err(refused("the value is too deep or too long"));
        }
        match value.kind() {
            ValueKind::None => self.text.push_str("null"),
            ValueKind::Bool => self
                .text
                .push_str(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number => self.text.push_str(&value.to_string()),
            ValueKind::String => self.string(value.as_str().unwrap_or_default()),
            ValueKind::Seq | ValueKind::Iterable => {
                let items = value.try_iter()?.map(|item| (None, item));
                self.container(['[', ']'], items, depth)?;
            }
            ValueKind::Map => {
                let mut entries = Vec::new();
                for key in value.try_iter()? {
                    if matches!(
                        key.kind(),
                        ValueKind::Seq | ValueKind::Iterable | ValueKind::Map | ValueKind::Plain
                    ) {
                        return Err(refused("expected keys that JSON has"));
                    }
                    let item = value.get_item(&key)?;
                    entries.push((Some(key), item));
                }
                self.container(['{', '}'], entries.into_iter(), depth)?;
            }
            _ => return Err(refused("expected a value that JSON has")),
        }
        Ok(())
    }

    fn container(
        &mut self,
        [open, close]: [char; 2],
        items: impl Iterator<Item = (Option<Value>, Value)>,
        depth: usize,
    ) -> Result<(), Error> {
        self.text.push(open);
        let mut empty = true;
        for (key, item) in items {
            if !empty {
                self.text
                    .push_str(if self.indent.is_some() { "," } else { ", " });
            }
            empty = false;
            self.new_line(depth + 1);
            if let Some(key) = key {
                self.string(&key.to_string());
                self.text.push_str(": ");
            }
            self.write(&item, depth + 1)?;
        }
        if !empty {
            self.new_line(depth);
        }
        self.text.push(close);
        Ok(())
    }

    fn new_line(&mut self, depth: usize) {
        if let Some(indent) = self.indent {
            self.text.push('\n');
            self.text.extend(std::iter::repeat_n(' ', indent * depth));
        }
    }

    fn string(&mut self, text: &str) {
        // JSON's escapes are the same here and there.
        self.text
            .push_str(&serde_json::Value::from(text).to_string());
    }
}
