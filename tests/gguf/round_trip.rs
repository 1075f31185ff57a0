//! Whatever header can be built is read back equal.

use std::sync::Arc;

use gpt2::gguf::{Array, Gguf, GgufHeader, GgufWriter, TensorType, Value, ValueRef};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

fn array() -> impl Strategy<Value = Array> {
    prop_oneof![
        vec(any::<u8>(), 0..20).prop_map(Array::U8),
        vec(any::<i8>(), 0..20).prop_map(Array::I8),
        vec(any::<u16>(), 0..20).prop_map(Array::U16),
        vec(any::<i16>(), 0..20).prop_map(Array::I16),
        vec(any::<u32>(), 0..20).prop_map(Array::U32),
        vec(any::<i32>(), 0..20).prop_map(Array::I32),
        vec(any::<f32>(), 0..20).prop_map(Array::F32),
        vec(any::<bool>(), 0..20).prop_map(Array::Bool),
        vec(any::<u64>(), 0..20).prop_map(Array::U64),
        vec(any::<i64>(), 0..20).prop_map(Array::I64),
        vec(any::<f64>(), 0..20).prop_map(Array::F64),
        vec(any::<String>(), 0..20).prop_map(Array::Strings),
    ]
}

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        any::<u8>().prop_map(Value::U8),
        any::<i8>().prop_map(Value::I8),
        any::<u16>().prop_map(Value::U16),
        any::<i16>().prop_map(Value::I16),
        any::<u32>().prop_map(Value::U32),
        any::<i32>().prop_map(Value::I32),
        any::<f32>().prop_map(Value::F32),
        any::<bool>().prop_map(Value::Bool),
        any::<u64>().prop_map(Value::U64),
        any::<i64>().prop_map(Value::I64),
        any::<f64>().prop_map(Value::F64),
        any::<String>().prop_map(Value::String),
        array().prop_map(Value::Array),
    ]
}

/// A type and a shape whose columns it can store.
fn layout() -> impl Strategy<Value = (TensorType, Vec<u64>)> {
    (
        prop::sample::select(TensorType::ALL),
        1u64..4,
        vec(1u64..4, 0..=3),
    )
        .prop_map(|(tensor_type, blocks, others)| {
            let columns = blocks * tensor_type.block_size() as u64;
            let shape = std::iter::once(columns).chain(others).collect();
            (tensor_type, shape)
        })
}

prop_compose! {
    fn header()(
        values in btree_map("[^\0]{1,12}", value(), 0..12),
        tensors in btree_map("[^\0]{1,12}", layout(), 0..8),
        alignment in prop::option::of(3u32..12),
    ) -> GgufHeader {
        let mut header = GgufHeader::new();
        for (key, value) in values {
            header.set(key, value).unwrap();
        }
        if let Some(power) = alignment {
            header.set("general.alignment", 1u32 << power).unwrap();
        }
        for (name, (tensor_type, shape)) in tensors {
            header.tensor(name, &shape, tensor_type).unwrap();
        }
        header
    }
}

/// The data of tensor `number`: bytes no other tensor has.
fn contents(number: usize, bytes: u64) -> Vec<u8> {
    vec![number as u8 + 1; bytes as usize]
}

/// `file` is what `header` said.
fn check(file: &Gguf, header: &GgufHeader) -> Result<(), TestCaseError> {
    prop_assert_eq!(file.version(), 3);
    prop_assert_eq!(file.alignment(), header.alignment());
    let metadata = file.metadata();
    let expected: Vec<&str> = header.pairs().iter().map(|(key, _)| key.as_str()).collect();
    prop_assert_eq!(metadata.keys().collect::<Vec<_>>(), expected);
    for (key, value) in header.pairs() {
        prop_assert_eq!(metadata.to_value(key).unwrap(), value.clone());
        if let (Some(ValueRef::Array(read)), Value::Array(written)) = (metadata.get(key), value) {
            prop_assert_eq!(read.len(), written.len());
            prop_assert_eq!(read.element_type(), written.element_type());
            prop_assert_eq!(read.iter().count(), written.len());
        }
    }
    prop_assert_eq!(file.tensors().len(), header.tensors().len());
    for (number, (read, planned)) in file.tensors().iter().zip(header.tensors()).enumerate() {
        prop_assert_eq!(&read.name, &planned.name);
        prop_assert_eq!(&read.shape, &planned.shape);
        prop_assert_eq!(read.tensor_type, planned.tensor_type);
        prop_assert_eq!(read.offset % file.alignment(), 0);
        prop_assert_eq!(file.tensor_data(read), contents(number, planned.bytes));
        prop_assert_eq!(file.tensor(&planned.name), Some(read));
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_encoded_is_read(header in header()) {
        let mut bytes = header.encode();
        for (number, tensor) in header.tensors().iter().enumerate() {
            bytes.extend(contents(number, tensor.bytes));
            bytes.resize(bytes.len().next_multiple_of(header.alignment() as usize), 0);
        }
        prop_assert_eq!(bytes.len() as u64, header.total_bytes());
        check(&Gguf::parse(Arc::new(bytes)).unwrap(), &header)?;
    }
}

proptest! {
    // Every file is brought to the disk, which takes its time.
    #![proptest_config(ProptestConfig {
        cases: 32, failure_persistence: None, ..ProptestConfig::default()
    })]

    #[test]
    fn what_is_written_in_pieces_is_read(header in header(), piece in 1usize..300) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.gguf");
        let mut writer = GgufWriter::create(&path, &header, false).unwrap();
        for (number, tensor) in header.tensors().iter().enumerate() {
            for data in contents(number, tensor.bytes).chunks(piece) {
                writer.write(data).unwrap();
            }
        }
        let written = writer.finish().unwrap();
        let bytes = std::fs::read(&path).unwrap();
        prop_assert_eq!(written, header.total_bytes());
        prop_assert_eq!(written, bytes.len() as u64);
        check(&Gguf::parse(Arc::new(bytes)).unwrap(), &header)?;
    }
}
