//! `PyTorch`'s zip archive: `NAME/data.pkl`, and each storage as `NAME/data/KEY`.

use std::collections::HashMap;
use std::io::Cursor;

use zip::{CompressionMethod, ZipArchive};

use super::checkpoint::contents;
use super::machine::Machine;
use super::view::Packed;
use crate::convert::stored_tensor::{MAX_TENSORS, Parsed};
use crate::error::{Error, Result};

/// The largest pickle accepted; that of the largest GPT-2 has 200 KB.
const MAX_PICKLE_BYTES: u64 = 64 << 20;
/// The member with the pickle, after the archive's own name.
const PICKLE: &str = "data.pkl";

/// The tensors of an archive.
///
/// # Errors
/// As in [`super::parse`].
pub(super) fn parse(bytes: &[u8]) -> Result<Parsed> {
    let members = members(bytes)?;
    let broken = |message: String| Error::format("zip archive", message);
    let mut roots = members.keys().filter_map(|name| {
        let root = name.strip_suffix(PICKLE)?;
        (root.is_empty() || root.ends_with('/')).then_some(root)
    });
    let (Some(root), None) = (roots.next(), roots.next()) else {
        return Err(broken(format!(
            "expected one member '{PICKLE}'; was it made by torch.save?"
        )));
    };
    let member = |name: &str| members.get(&format!("{root}{name}"));
    let little = |order: &Packed| order.unpack(bytes).map(|order| order == b"little");
    if let Some(order) = member("byteorder").filter(|order| order.bytes <= 16)
        && !little(order)?
    {
        return Err(Error::Unsupported(
            "a checkpoint in big-endian byte order".to_owned(),
        ));
    }
    let pickle = member(PICKLE).filter(|pickle| pickle.bytes <= MAX_PICKLE_BYTES);
    let pickle = pickle
        .ok_or_else(|| broken(format!("'{PICKLE}' has more than {MAX_PICKLE_BYTES} bytes")))?
        .unpack(bytes)?;
    let mut machine = Machine::new();
    let (value, _) = machine.run(&pickle)?;
    // Offsets inside an unpacked pickle are none of the file.
    if machine
        .storages()
        .iter()
        .any(|storage| storage.inside.is_some())
    {
        return Err(broken(format!("'{PICKLE}' has storages inside it")));
    }
    contents(&machine, value, |key| member(&format!("data/{key}")))
}

/// The members by name. Only the directory and each member's own header are read.
fn members(bytes: &[u8]) -> Result<HashMap<String, Packed>> {
    let broken = |message: String| Error::format("zip archive", message);
    let mut archive = ZipArchive::new(Cursor::new(bytes))
        .map_err(|error| broken(format!("{error}; the file is truncated or broken")))?;
    if archive.has_duplicate_names() || archive.len() > 2 * MAX_TENSORS {
        return Err(broken(format!(
            "expected at most {} members of different names",
            2 * MAX_TENSORS
        )));
    }
    let mut members = HashMap::new();
    for number in 0..archive.len() {
        let member = archive
            .by_index_raw(number)
            .map_err(|error| broken(format!("member {number}: {error}")))?;
        let name = String::from_utf8_lossy(member.name_raw()).into_owned();
        let deflated = match member.compression() {
            CompressionMethod::Stored => false,
            CompressionMethod::Deflated => true,
            other => {
                return Err(Error::Unsupported(format!(
                    "zip member '{name}' packed by {other:?}"
                )));
            }
        };
        let start = member
            .data_start()
            .and_then(|start| usize::try_from(start).ok());
        let length = usize::try_from(member.compressed_size()).ok();
        let range = start
            .zip(length)
            .and_then(|(start, length)| Some(start..start.checked_add(length)?))
            .filter(|range| range.end <= bytes.len())
            .filter(|_| deflated || member.size() == member.compressed_size())
            .filter(|_| !member.encrypted())
            .ok_or_else(|| {
                broken(format!(
                    "member '{name}' is encrypted or not inside the file; it is truncated or broken"
                ))
            })?;
        let bytes = member.size();
        members.insert(
            name,
            Packed {
                range,
                deflated,
                bytes,
            },
        );
    }
    Ok(members)
}
