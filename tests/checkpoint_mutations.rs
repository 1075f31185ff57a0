//! Whatever is done to the bytes of a checkpoint, the converter says yes or no: it does not panic,
//! does not hang, does not allocate more than the file justifies, and leaves nothing behind.
//!
//! One test only: the allocations of the whole process are counted.

mod hostile;

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::{Duration, Instant};

use gpt2::convert::{ConvertOptions, FileType, convert, plan};
use hostile::bundle::{block_of, seal, variables};
use hostile::hdf5::VALID as HDF5;
use hostile::random::{EXTREMES, Random, changes, overwrite};
use hostile::tiny::config;
use hostile::writers::{Bin, ELEMENTS, Lie, msgpack, weights};
use peak_alloc::PeakAlloc;

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

/// Mutations of each file in the exhaustive form.
const MUTATIONS: usize = 2_500;
/// Bytes that may be allocated for every byte of the file, and besides.
const ALLOCATION_FACTOR: usize = 16;
const ALLOCATION_SLACK: usize = 2 << 20;
/// Far more than any of these files needs, far less than a hang.
const LONGEST: Duration = Duration::from_secs(5);

/// A file to be broken, with its configuration.
struct Base {
    name: &'static str,
    config: Vec<u8>,
    bytes: Vec<u8>,
    /// What is put around the bytes to make the file.
    seal: fn(&[u8]) -> Vec<u8>,
    /// The data that the file is an index of, by its name.
    data: Option<(&'static str, Vec<u8>)>,
    /// Places that are not inside the numbers.
    structure: Vec<usize>,
}

/// Files with one number throughout, so that all that differs is structure.
fn written() -> Vec<Base> {
    let mut weights = weights();
    for weight in &mut weights {
        weight.numbers.fill(0.5);
    }
    let element = ELEMENTS[0];
    let bin = |lie, legacy| Bin::new(&weights, element, lie, legacy);
    [
        ("pytorch_model.bin", bin(Lie::Own, false).zip(false)),
        ("pytorch_model.bin", bin(Lie::Turned, false).zip(true)),
        ("pytorch_model.bin", bin(Lie::Shared, true).stream()),
        ("flax_model.msgpack", msgpack(&weights, element, 8192)),
    ]
    .into_iter()
    .map(|(name, bytes)| {
        let repeats = |place: usize| {
            place >= 4
                && bytes[place] == bytes[place - 4]
                && bytes.get(place + 4) == Some(&bytes[place])
        };
        let structure = (0..bytes.len()).filter(|place| !repeats(*place)).collect();
        Base {
            name,
            config: config().to_string().into_bytes(),
            bytes,
            seal: <[u8]>::to_vec,
            data: None,
            structure,
        }
    })
    .collect()
}

/// Places that are not inside numbers, which are weights of usual size.
fn outside_numbers(bytes: &[u8]) -> Vec<usize> {
    let number = |place: usize| {
        let four = bytes.get(place & !3..(place & !3) + 4).unwrap_or(&[0; 4]);
        f32::from_le_bytes(four.try_into().unwrap()).abs()
    };
    (0..bytes.len())
        .filter(|place| !(1e-5..10.0).contains(&number(*place)))
        .collect()
}

/// A file that Keras wrote.
fn keras() -> Base {
    let structure = outside_numbers(HDF5);
    Base {
        name: "tf_model.h5",
        config: include_bytes!("data/heads/lm_tf/config.json").to_vec(),
        bytes: HDF5.to_vec(),
        seal: <[u8]>::to_vec,
        data: None,
        structure,
    }
}

/// A TensorFlow checkpoint. Its index has checksums, which would refuse every change: they are made
/// for what was changed.
fn tensorflow() -> Base {
    let (variables, data) = variables();
    let bytes = block_of(1, &variables);
    Base {
        name: "model.ckpt.index",
        config: config().to_string().into_bytes(),
        structure: (0..bytes.len()).collect(),
        bytes,
        seal,
        data: Some(("model.ckpt.data-00000-of-00001", data)),
    }
}

/// What other training programs write: the sizes are in the file, not in `config.json`.
fn trained() -> Vec<Base> {
    let base = |bytes: &[u8], structure: Vec<usize>| Base {
        name: "pytorch_model.bin",
        config: br#"{"model_type": "another"}"#.to_vec(),
        bytes: bytes.to_vec(),
        seal: <[u8]>::to_vec,
        data: None,
        structure,
    };
    let nanogpt = include_bytes!("data/checkpoints/nanogpt/ckpt.pt");
    let llm_c = include_bytes!("data/checkpoints/llm_c/f32.bin");
    let plain = include_bytes!("data/checkpoints/lightning/state.pkl");
    let config = include_bytes!("data/checkpoints/lightning/config.json");
    vec![
        base(nanogpt, outside_numbers(nanogpt)),
        // Of the header's 256 integers eight are used.
        base(llm_c, (0..64).collect()),
        Base {
            config: config.to_vec(),
            ..base(plain, outside_numbers(plain))
        },
    ]
}

/// Converts the folder; whether it could be.
fn attempt(folder: &Path, whole: bool) -> bool {
    let options = ConvertOptions {
        threads: Some(1),
        overwrite: true,
        ..ConvertOptions::new(FileType::from_name("f16").unwrap())
    };
    if !whole {
        return plan(folder, &options).is_ok();
    }
    let output = folder.with_extension("gguf");
    let done = convert(folder, &output, &options, &()).is_ok();
    assert_eq!(output.exists(), done, "the output is there or not");
    let _ = fs::remove_file(output);
    done
}

/// What may be done with a file, checked; whether it was taken, and the bytes allocated.
fn check(what: &str, folder: &Path, size: usize, whole: bool) -> (bool, usize) {
    ALLOCATOR.reset_peak_usage();
    let before = ALLOCATOR.current_usage();
    let start = Instant::now();
    let taken = catch_unwind(AssertUnwindSafe(|| attempt(folder, whole)));
    let elapsed = start.elapsed();
    let peak = ALLOCATOR.peak_usage().saturating_sub(before);
    let Ok(taken) = taken else {
        panic!("{what}: the converter panicked");
    };
    let most = size * ALLOCATION_FACTOR + ALLOCATION_SLACK;
    assert!(peak <= most, "{what}: {peak} bytes allocated for {size}");
    assert!(elapsed < LONGEST, "{what}: took {elapsed:?}");
    (taken, peak)
}

/// One random change.
fn mutate(bytes: &mut Vec<u8>, structure: &[usize], random: &mut Random) {
    let place = *random.of(structure);
    let place = place.min(bytes.len().saturating_sub(1));
    match random.below(7) {
        0 => overwrite(bytes, place, 1, random.next()),
        1 => {
            let bit = 1 << random.below(8);
            if let Some(byte) = bytes.get_mut(place) {
                *byte ^= bit;
            }
        }
        2 => bytes.truncate(place),
        3 | 4 => {
            let width = *random.of(&[1, 2, 4, 8]);
            let extreme = *random.of(&EXTREMES);
            overwrite(bytes, place, width, extreme);
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
        // A piece is put over another: addresses and names are those of another.
        _ => {
            let from = *random.of(structure);
            let piece: Vec<u8> = bytes.iter().skip(from).take(8).copied().collect();
            for (byte, new) in bytes.iter_mut().skip(place).zip(piece) {
                *byte = new;
            }
        }
    }
}

#[test]
fn no_mutation_breaks_a_reader() {
    let mut random = Random(3);
    for base in written()
        .into_iter()
        .chain([keras(), tensorflow()])
        .chain(trained())
    {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("config.json"), &base.config).unwrap();
        let file = folder.path().join(base.name);
        let mut size = base.bytes.len();
        if let Some((name, data)) = &base.data {
            fs::write(folder.path().join(name), data).unwrap();
            size += data.len();
        }
        fs::write(&file, (base.seal)(&base.bytes)).unwrap();
        assert!(
            check(base.name, folder.path(), size, true).0,
            "{}",
            base.name
        );
        let (mut taken, mut largest) = (0, 0);
        let mutations = changes(MUTATIONS);
        for number in 0..mutations {
            let mut bytes = base.bytes.clone();
            for _ in 0..=random.below(2) {
                mutate(&mut bytes, &base.structure, &mut random);
            }
            fs::write(&file, (base.seal)(&bytes)).unwrap();
            let what = format!("{}, mutation {number}", base.name);
            let (was_taken, peak) = check(&what, folder.path(), size, number % 8 == 0);
            taken += usize::from(was_taken);
            largest = largest.max(peak);
        }
        println!(
            "{}: {} bytes of structure in {size}, {mutations} mutations, {taken} of them taken, at \
             most {largest} bytes allocated",
            base.name,
            base.structure.len(),
        );
        // Mutations that are all refused, or all taken, would show nothing.
        assert!(
            taken > mutations / 125 && taken < mutations * 3 / 4,
            "{taken} taken"
        );
    }
}
