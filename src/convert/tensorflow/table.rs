//! The table that a checkpoint's index is: sorted keys with values, in `LevelDB`'s format.
//!
//! A file is blocks, then a footer of 48 bytes: the places of the metaindex block and of the index
//! block as varints, zeros, a magic number. A block is entries, then u32s: where entries with a
//! whole key begin, and how many these are; behind it one byte for its compression and a masked
//! CRC-32C of both. An entry is three varints (bytes that its key shares with the key before,
//! further bytes of the key, bytes of the value), then these bytes. The index block has an entry
//! for each block of data, whose value is that block's place.

use std::ops::Range;

use super::crc32c::masked_crc32c;
use crate::convert::stored_tensor::{MAX_NAME_BYTES, MAX_TENSORS};
use crate::error::{Error, Result};
use crate::protobuf::varint;

const FOOTER_BYTES: usize = 48;
const MAGIC: u64 = 0xdb47_7524_8b80_fb57;
/// One byte for the compression, four for the checksum.
const TRAILER_BYTES: usize = 5;
/// Most bytes of all keys; each tensor has one.
const MAX_KEY_BYTES: usize = 16 << 20;

/// What is called with a key and its value.
type Each<'a> = dyn FnMut(&[u8], &[u8]) -> Result<()> + 'a;

/// Calls `each` with every key and value of a table, in order.
///
/// # Errors
/// [`Error::Format`] for a table that is broken; [`Error::Unsupported`] for compressed blocks; the
/// errors of `each`.
pub(super) fn for_each_entry(
    file: &[u8],
    mut each: impl FnMut(&[u8], &[u8]) -> Result<()>,
) -> Result<()> {
    let footer = file
        .len()
        .checked_sub(FOOTER_BYTES)
        .and_then(|start| file.get(start..))
        .ok_or_else(|| broken("expected 48 bytes or more", &format!("{}", file.len())))?;
    let (mut places, magic) = footer.split_at(FOOTER_BYTES - 8);
    if magic != MAGIC.to_le_bytes() {
        return Err(broken(
            "expected the magic number of TensorFlow's tables at the end",
            &format!("{magic:02x?}; is the file truncated?"),
        ));
    }
    let _metaindex = place(&mut places)?;
    let index = block(file, place(&mut places)?)?;
    let (mut blocks, mut key_bytes) = (0, 0);
    let mut last_key = Vec::new();
    for_each_in_block(index, &mut Vec::new(), &mut |_, value| {
        blocks += 1;
        if blocks > MAX_TENSORS {
            return Err(broken("expected fewer blocks", &format!("{blocks}")));
        }
        let contents = block(file, place(&mut &*value)?)?;
        for_each_in_block(contents, &mut last_key, &mut |key, value| {
            key_bytes += key.len();
            if key_bytes > MAX_KEY_BYTES {
                return Err(broken("expected fewer keys", "more than a model has"));
            }
            each(key, value)
        })
    })
}

/// Takes the place of a block off the front: its offset and its size without the trailer.
fn place(bytes: &mut &[u8]) -> Result<Range<usize>> {
    let mut number = || varint(bytes).and_then(|value| usize::try_from(value).ok());
    let range = number().zip(number()).and_then(|(offset, size)| {
        let end = offset.checked_add(size)?;
        Some(offset..end)
    });
    range.ok_or_else(|| broken("expected the place of a block", "other bytes"))
}

/// The contents of the block at `range`, whose checksum is right.
fn block(file: &[u8], range: Range<usize>) -> Result<&[u8]> {
    let outside = || {
        broken(
            "expected blocks within the file",
            &format!(
                "one at {} of {} bytes in {}",
                range.start,
                range.len(),
                file.len()
            ),
        )
    };
    let with_trailer = range
        .end
        .checked_add(TRAILER_BYTES)
        .and_then(|end| file.get(range.start..end))
        .ok_or_else(outside)?;
    let (summed, checksum) = with_trailer.split_last_chunk::<4>().ok_or_else(outside)?;
    if masked_crc32c(summed) != u32::from_le_bytes(*checksum) {
        return Err(broken(
            "expected a block's own checksum",
            &format!("another for the block at byte {}", range.start),
        ));
    }
    match summed.split_last() {
        Some((0, contents)) => Ok(contents),
        Some((compression, _)) => Err(Error::Unsupported(format!(
            "the index of a TensorFlow checkpoint with compressed blocks ({}); TensorFlow writes \
             them uncompressed",
            if *compression == 1 {
                "snappy"
            } else {
                "of an unknown kind"
            }
        ))),
        None => Err(outside()),
    }
}

/// Calls `each` with the entries of a block. `key` holds the key before the block, and afterwards
/// the last of the block.
fn for_each_in_block(contents: &[u8], key: &mut Vec<u8>, each: &mut Each) -> Result<()> {
    let cut = || broken("expected entries within their block", "one beyond its end");
    let (before_count, count) = contents.split_last_chunk::<4>().ok_or_else(cut)?;
    let restarts = usize::try_from(u32::from_le_bytes(*count))
        .ok()
        .and_then(|count| count.checked_mul(4))
        .ok_or_else(cut)?;
    let mut rest = before_count
        .len()
        .checked_sub(restarts)
        .and_then(|end| before_count.get(..end))
        .ok_or_else(cut)?;
    let mut first = true;
    while !rest.is_empty() {
        let mut number = || varint(&mut rest).and_then(|value| usize::try_from(value).ok());
        let (Some(shared), Some(further), Some(value_bytes)) = (number(), number(), number())
        else {
            return Err(cut());
        };
        let (key_end, after) = rest.split_at_checked(further).ok_or_else(cut)?;
        let (value, after) = after.split_at_checked(value_bytes).ok_or_else(cut)?;
        rest = after;
        // The first entry of a block has a whole key.
        if shared > key.len() || (first && shared > 0) {
            return Err(broken(
                "expected a key that begins as the one before",
                &format!("{shared} bytes of {}", if first { 0 } else { key.len() }),
            ));
        }
        if shared + further > MAX_NAME_BYTES {
            return Err(broken(
                &format!("expected keys of at most {MAX_NAME_BYTES} bytes"),
                &format!("one of {}", shared + further),
            ));
        }
        // Only the empty key may come after nothing.
        let is_header = key.is_empty() && key_end.is_empty();
        if key_end <= key.get(shared..).unwrap_or_default() && !is_header {
            return Err(broken("expected ascending keys", "others"));
        }
        key.truncate(shared);
        key.extend_from_slice(key_end);
        each(key, value)?;
        first = false;
    }
    Ok(())
}

fn broken(expected: &str, found: &str) -> Error {
    Error::format(
        "TensorFlow checkpoint's index",
        format!("{expected}, found {found}"),
    )
}
