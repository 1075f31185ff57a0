//! Weights that `PyTorch` saved: `pytorch_model.bin`.
//!
//! A pickle is a program for a small stack machine. [`machine`] runs only what a state dict
//! consists of: containers, numbers, strings, and the few calls that mean "this tensor is that part
//! of that storage", which it records and never makes. Any other global is refused by name. The
//! elements are outside the pickle: in members of a zip archive ([`archive`], since `PyTorch` 1.6)
//! or behind it ([`stream`], before).
//!
//! Formats as in `PyTorch`'s `torch/serialization.py` and Python's `pickletools.py`.

mod archive;
mod characters;
mod checkpoint;
mod code;
mod globals;
mod machine;
mod state_dict;
mod stream;
mod value;
mod view;

pub(super) use self::characters::characters;
use self::checkpoint::contents;
use self::machine::Machine;
use super::stored_tensor::Parsed;
use crate::error::{Error, Result};

/// How a zip archive begins.
const ZIP: &[u8] = b"PK\x03\x04";
/// How the stream before `PyTorch` 1.6 begins: a pickle of protocol 2 with an integer of 10 bytes.
const STREAM: &[u8] = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.";
/// The instruction that every pickle since protocol 2 begins with.
const PROTOCOL: u8 = 0x80;
/// Bytes that a pickle with a tensor has at least.
const PLAIN_AT_LEAST: usize = 64;
/// The magic bytes of a tar archive; `PyTorch` before 0.1.10 wrote those.
const TAR: (usize, &[u8]) = (257, b"ustar");

/// The tensors of a file.
///
/// # Errors
/// [`Error::Format`] for a broken file; [`Error::Unsupported`] for one that is no state dict.
pub(super) fn parse(bytes: &[u8]) -> Result<Parsed> {
    if bytes.starts_with(ZIP) {
        return archive::parse(bytes);
    }
    if bytes.starts_with(STREAM) {
        return stream::parse(bytes);
    }
    if bytes.first() == Some(&PROTOCOL) && bytes.len() > PLAIN_AT_LEAST {
        return plain(bytes);
    }
    if bytes
        .get(TAR.0..)
        .is_some_and(|rest| rest.starts_with(TAR.1))
    {
        return Err(Error::Unsupported(
            "a tar archive, as PyTorch wrote before 0.1.10; load it and save it again".to_owned(),
        ));
    }
    Err(Error::format(
        "pickle",
        "expected a zip archive or PyTorch's older stream, found neither; the file is broken or \
         was \
         not made by torch.save",
    ))
}

/// The tensors of a pickle that is no file of `PyTorch`'s: `pickle.dump` puts each storage into it
/// as a stream.
fn plain(bytes: &[u8]) -> Result<Parsed> {
    let mut machine = Machine::new();
    let (value, _) = machine.run(bytes)?;
    contents(&machine, value, |_| None)
}
