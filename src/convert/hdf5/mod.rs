//! Weights that Keras wrote: `tf_model.h5`.
//!
//! HDF5 is a large format of which h5py writes a small part by default: superblock 0, groups as
//! symbol tables, contiguous data sets. That part is read here and the rest is refused by name. No
//! crate was found that tells where in the file a data set is, so that its pages can be mapped and
//! released, without reading a hundred structures that no checkpoint has.
//!
//! An HDF5 file is a graph of addresses. Each is checked against the file before it is followed,
//! and every structure that is read takes from a fixed budget, so that cycles end.
//!
//! Format: "HDF5 File Format Specification Version 2.0"; Keras's use of it: `layer_names` of the
//! root lists groups, `weight_names` of each lists paths of data sets in it, in both cases split
//! into `…_names0`, `…_names1` and so on when too long for one attribute.

mod file;
mod group;
mod heap;
mod message;
mod object;

use super::framework_names::TENSORFLOW;
use super::stored_tensor::{Location, MAX_TENSORS, Parsed, StoredTensor};
use crate::error::{Error, Result};
use file::File;
use group::Groups;
use heap::Heaps;
use object::Object;

/// The tensors of a file.
///
/// # Errors
/// [`Error::Format`] naming byte or path; [`Error::Unsupported`] for parts of HDF5 that Keras does
/// not use.
pub(super) fn parse(bytes: &[u8]) -> Result<Parsed> {
    let file = File::new(bytes)?;
    let mut groups = Groups::default();
    let mut heaps = Heaps::default();
    let root_address = file.root()?;
    let root = Object::read(&file, root_address)?;
    let layers = names(&file, &mut heaps, &root, "layer_names")?.ok_or_else(|| {
        Error::format(
            "HDF5, '/'",
            "has no attribute layer_names; was it saved by save_pretrained or Keras's \
             save_weights?",
        )
    })?;
    let mut tensors = Vec::new();
    for layer in layers {
        let place = || format!("HDF5, '/{layer}'");
        let address = groups
            .find(&file, root_address, &layer)
            .map_err(|error| error.within(place()))?;
        let group = Object::read(&file, address)?;
        let weights = names(&file, &mut heaps, &group, "weight_names")?.unwrap_or_default();
        if weights.len() > MAX_TENSORS - tensors.len() {
            return Err(Error::format(
                place(),
                format!("more than {MAX_TENSORS} weights, which no GPT-2 has"),
            ));
        }
        for weight in weights {
            let within = |error: Error| error.within(format!("{}, '{weight}'", place()));
            let address = groups.find(&file, address, &weight).map_err(within)?;
            tensors.push(tensor(&file, address, &weight).map_err(within)?);
        }
    }
    Ok(tensors.into())
}

/// The data set at `address`, whose path in its layer's group is `weight`.
fn tensor(file: &File, address: u64, weight: &str) -> Result<StoredTensor> {
    let (element, shape, range) = Object::read(file, address)?.data_set(file)?;
    // The first name is the one Keras gave the model, which counts how many were built before.
    let path: Vec<&str> = weight.split('/').skip(1).collect();
    let (name, swapped) = TENSORFLOW.translate(&path);
    Ok(StoredTensor {
        name,
        element,
        shape,
        swapped,
        location: Location::Contiguous(range),
    })
}

/// The names an attribute lists, or its parts, numbered from 0.
fn names<'a>(
    file: &File<'a>,
    heaps: &mut Heaps<'a>,
    object: &Object<'a>,
    attribute: &str,
) -> Result<Option<Vec<String>>> {
    if let Some(whole) = object.attribute(file, attribute)? {
        return whole.texts(file, heaps).map(Some);
    }
    let mut all: Option<Vec<String>> = None;
    let mut number = 0;
    while let Some(part) = object.attribute(file, &format!("{attribute}{number}"))? {
        all.get_or_insert_default().extend(part.texts(file, heaps)?);
        number += 1;
    }
    Ok(all)
}
