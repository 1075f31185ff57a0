//! Whatever is done to the bytes of a GGUF file, the reader says yes or no: it does not panic, does
//! not hang, and does not allocate more than the file justifies.
//!
//! One test only: the allocations of the whole process are counted.

mod hostile;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use gpt2::gguf::{Bytes, Gguf};
use hostile::gguf::gguf_cases;
use hostile::random::{EXTREMES, Random, overwrite};
use hostile::raw;
use peak_alloc::PeakAlloc;

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

/// Mutations in all.
const MUTATIONS: usize = 10_000;
/// Bytes that may be allocated for every byte of the file. The costliest byte is one of a tensor's
/// description: 33 bytes become a structure of 72 in a vector that doubles when it is full.
const ALLOCATION_FACTOR: usize = 8;
/// Bytes that may be allocated besides: an error with its message, a test's own doings.
const ALLOCATION_SLACK: usize = 1 << 20;
/// The tensor type of 8-byte elements.
const TYPE_I64: u32 = 27;
/// Far more than any of these files needs, far less than a hang.
const LONGEST: Duration = Duration::from_secs(2);

/// Reads everything a file offers; whether the reader took it.
fn read_all(bytes: Vec<u8>) -> bool {
    let bytes: Bytes = Arc::new(bytes);
    let Ok(file) = Gguf::parse(bytes) else {
        return false;
    };
    let metadata = file.metadata();
    for (key, value) in metadata.iter() {
        let _ = value.to_string();
        let _ = metadata.to_value(key);
        let _ = metadata.u64(key);
        let _ = metadata.f32(key);
        let _ = metadata.bool(key);
        let _ = metadata.str(key);
        let _ = metadata.u32s(key);
        let _ = metadata.f32s(key);
        if let Ok(Some(strings)) = metadata.strings(key) {
            let _ = strings.flatten().count();
        }
    }
    for tensor in file.tensors() {
        assert_eq!(file.tensor_data(tensor).len() as u64, tensor.bytes);
        assert_eq!(file.tensor(&tensor.name), Some(tensor));
        assert!(tensor.rows() * tensor.columns() == tensor.elements());
    }
    true
}

/// What the reader may do with `bytes`, checked; whether it took them.
fn check(what: &str, bytes: Vec<u8>) -> bool {
    let size = bytes.len();
    ALLOCATOR.reset_peak_usage();
    let before = ALLOCATOR.current_usage();
    let start = Instant::now();
    let taken = catch_unwind(AssertUnwindSafe(|| read_all(bytes)));
    let (elapsed, peak) = (
        start.elapsed(),
        ALLOCATOR.peak_usage().saturating_sub(before),
    );
    let Ok(taken) = taken else {
        panic!("{what}: the reader panicked");
    };
    let most = size * ALLOCATION_FACTOR + ALLOCATION_SLACK;
    assert!(
        peak <= most,
        "{what}: {peak} bytes allocated for a file of {size}"
    );
    assert!(elapsed < LONGEST, "{what}: took {elapsed:?}");
    taken
}

/// Every integer field of the valid file with every extreme value.
fn extremes_in_every_field(base: &raw::RawGguf) -> usize {
    for &(place, width) in &base.fields {
        for extreme in EXTREMES {
            let mut bytes = base.bytes.clone();
            overwrite(&mut bytes, place, width, extreme);
            check(&format!("{extreme} at byte {place}"), bytes);
        }
    }
    base.fields.len() * EXTREMES.len()
}

/// One random change of `bytes`; some of them take from the hostile files.
fn mutate(bytes: &mut Vec<u8>, base: &raw::RawGguf, donors: &[Vec<u8>], random: &mut Random) {
    let place = random.below(bytes.len());
    match random.below(8) {
        0 => overwrite(bytes, place, 1, random.next()),
        1 => {
            let bit = 1 << random.below(8);
            if let Some(byte) = bytes.get_mut(place) {
                *byte ^= bit;
            }
        }
        2 => bytes.truncate(place),
        3 | 4 => {
            let (field, width) = base.fields[random.below(base.fields.len())];
            let extreme = EXTREMES[random.below(EXTREMES.len())];
            overwrite(bytes, field, width, extreme);
        }
        5 => {
            // A piece is taken out or doubled: all that follows moves.
            let end = (place + random.below(64)).min(bytes.len());
            let piece = bytes[place..end].to_vec();
            let doubled = random.below(2) == 0;
            bytes.splice(
                place..if doubled { place } else { end },
                if doubled { piece } else { vec![] },
            );
        }
        6 => {
            let donor = &donors[random.below(donors.len())];
            let start = random.below(donor.len());
            let end = (start + random.below(128)).min(donor.len());
            let until = (place + random.below(64)).min(bytes.len());
            bytes.splice(place..until, donor[start..end].iter().copied());
        }
        _ => overwrite(bytes, place, 8, random.next() >> random.below(64)),
    }
}

/// A count that the file cannot hold must not be believed, even where the file is large.
fn large_files_with_large_claims() {
    const LARGE: usize = 8 << 20;
    let claims = [
        ("tensors", raw::RawGguf::new((LARGE / 33) as u64, 0)),
        ("keys", raw::RawGguf::new(0, (LARGE / 14) as u64)),
        (
            "strings",
            raw::RawGguf::new(1, 1).array(b"k", raw::STRING, (LARGE / 8) as u64 - 64),
        ),
    ];
    for (name, raw) in claims {
        let bytes: Bytes = Arc::new(raw.data(LARGE).bytes);
        ALLOCATOR.reset_peak_usage();
        let before = ALLOCATOR.current_usage();
        assert!(Gguf::parse(bytes).is_err(), "{name}");
        let peak = ALLOCATOR.peak_usage().saturating_sub(before);
        assert!(peak < 64 << 10, "{name}: {peak} bytes allocated for claims");
    }
}

/// Files of nothing but the smallest keys and tensors, the most there can be for their size.
fn dense_files() {
    const COUNT: u64 = 50_000;
    let numbered = |number: u64| format!("{number:x}").into_bytes();
    let keys = (0..COUNT).fold(raw::RawGguf::new(0, COUNT), |raw, number| {
        raw.key(&numbered(number), raw::U8).raw(&[1])
    });
    let aligned = raw::RawGguf::new(COUNT, 1)
        .key(b"general.alignment", raw::U32)
        .u32(8);
    let tensors = (0..COUNT).fold(aligned, |raw, number| {
        raw.tensor(&numbered(number), &[1], TYPE_I64, 8 * number)
    });
    for (name, raw) in [
        ("keys", keys),
        ("tensors", tensors.data(8 * COUNT as usize)),
    ] {
        let size = raw.bytes.len();
        let bytes: Bytes = Arc::new(raw.bytes);
        ALLOCATOR.reset_peak_usage();
        let before = ALLOCATOR.current_usage();
        Gguf::parse(bytes).unwrap();
        let peak = ALLOCATOR.peak_usage().saturating_sub(before);
        println!("{COUNT} {name}: {peak} bytes allocated for a file of {size}");
        assert!(peak < size * ALLOCATION_FACTOR, "{name}: {peak} of {size}");
    }
}

#[test]
fn no_mutation_breaks_the_reader() {
    let base = raw::valid();
    let donors: Vec<Vec<u8>> = gguf_cases()
        .into_iter()
        .map(|case| case.bytes)
        .filter(|bytes| !bytes.is_empty())
        .collect();
    assert!(check("the valid file", base.bytes.clone()));
    large_files_with_large_claims();
    dense_files();

    let exhaustive = extremes_in_every_field(&base);
    let mut random = Random(2);
    let mut taken = 0;
    for number in exhaustive..MUTATIONS {
        let mut bytes = base.bytes.clone();
        for _ in 0..=random.below(3) {
            mutate(&mut bytes, &base, &donors, &mut random);
        }
        taken += usize::from(check(&format!("mutation {number}"), bytes));
    }
    println!(
        "{exhaustive} extremes, {} random mutations, {taken} of them still valid",
        MUTATIONS.saturating_sub(exhaustive)
    );
    // Mutations that are all refused at the first byte would show nothing, and the other way round.
    assert!(exhaustive < MUTATIONS / 2 && taken > 500 && taken < MUTATIONS / 2);
}
