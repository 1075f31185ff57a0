//! Whatever is done to the bytes of a model, loading it, running it and converting it end with a
//! result or an error: no panic, no abort inside ggml, no hang, no allocation that the file does
//! not justify.
//!
//! One test only: the allocations of the whole process are counted.

mod hostile;

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gpt2::convert::{ConvertOptions, FileType, convert};
use gpt2::gguf::{Bytes, Gguf, GgufHeader, TensorType};
use gpt2::session::{CacheType, FlashAttention, Model, ModelOptions, Session, SessionOptions};
use gpt2::spec::Hyperparameters;
use gpt2::tokenizer::Tokenizer;
use hostile::random::{EXTREMES, Random, changes, overwrite};
use hostile::tiny::{Files, TinyModel, checkpoint, hyperparameters, merges_txt, vocabulary_json};
use peak_alloc::PeakAlloc;

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

/// Mutated GGUF files that are loaded and run, in the exhaustive form.
const MODELS: usize = 8_500;
/// Mutated folders that are converted, in the exhaustive form.
const FOLDERS: usize = 1_500;
/// Far more than any of these files needs, far less than a hang.
const LONGEST: Duration = Duration::from_secs(5);
/// Bytes that may be allocated for files of some 60 KB. What ggml allocates is not counted.
const MOST_MEMORY: usize = 24 << 20;

/// Runs `work`, which may fail in any way but these; whether it succeeded.
fn check(what: &str, work: impl FnOnce() -> gpt2::Result<()>) -> bool {
    ALLOCATOR.reset_peak_usage();
    let before = ALLOCATOR.current_usage();
    let start = Instant::now();
    let result = catch_unwind(AssertUnwindSafe(work));
    let elapsed = start.elapsed();
    let peak = ALLOCATOR.peak_usage().saturating_sub(before);
    assert!(elapsed < LONGEST, "{what}: took {elapsed:?}");
    assert!(peak <= MOST_MEMORY, "{what}: {peak} bytes allocated");
    let Ok(result) = result else {
        panic!("{what}: panicked");
    };
    result.is_ok()
}

/// Reads, runs and decodes as the commands do; how the model runs depends on `number`.
fn use_model(bytes: Vec<u8>, number: usize) -> gpt2::Result<()> {
    const TEXT: &str = "the text, THEN\n  the end<|endoftext|>é";
    let bytes: Bytes = Arc::new(bytes);
    let gguf = Gguf::parse(Arc::clone(&bytes))?;
    let tokenizer = Tokenizer::from_metadata(gguf.metadata()).and_then(|tokenizer| {
        let ids = tokenizer.encode(TEXT)?;
        let _ = tokenizer.decode(&ids);
        Ok(())
    });
    let model = Model::from_bytes(
        bytes,
        &ModelOptions {
            map: !number.is_multiple_of(3),
            repack: !number.is_multiple_of(2),
            ..ModelOptions::default()
        },
    )?;
    let caches = [
        None,
        Some(CacheType::F32),
        Some(CacheType::F16),
        Some(CacheType::Q8_0),
    ];
    let mut session = Session::new(
        model,
        SessionOptions {
            cache_type: caches[number % 4],
            flash_attention: [FlashAttention::On, FlashAttention::Off][number / 4 % 2],
            threads: Some(1),
            ..SessionOptions::default()
        },
    )?;
    session.prefill(&[0, 1, 0])?;
    session.decode(0)?;
    session.forward(&[1, 0])?;
    tokenizer
}

/// Models of all shapes that are small and odd, valid each: every one must run.
fn odd_models() -> Vec<(String, TinyModel)> {
    let of = |width, heads, layers, inner| Hyperparameters {
        n_embd: width,
        n_head: heads,
        n_layer: layers,
        n_inner: inner,
        ..hyperparameters()
    };
    let shapes = [
        of(1, 1, 1, 1),
        of(3, 1, 1, 5),
        of(3, 3, 2, 7),
        of(32, 1, 2, 33),
        of(32, 32, 1, 32),
        of(40, 5, 1, 96),
        of(64, 2, 2, 61),
        of(96, 2, 1, 96),
        of(256, 4, 1, 512),
        of(320, 1, 1, 32),
    ];
    let one_of_each = Hyperparameters {
        vocab_size: 2,
        n_positions: 7,
        eos: vec![u32::MAX, 1],
        ..of(32, 2, 1, 64)
    };
    let types = TensorType::ALL.iter().filter(|&&tensor_type| {
        // Those that need an importance matrix, or that nothing is converted to.
        let mut row = vec![0; tensor_type.row_bytes(256).unwrap_or(0) as usize];
        gpt2::quant::quantize_rows(tensor_type, &[0.5; 256], 256, None, &mut row).is_ok()
    });
    let mut models = Vec::new();
    for &tensor_type in types {
        for shape in shapes.iter().chain([&one_of_each]) {
            let name = format!(
                "{} {}x{} heads, inner {}",
                tensor_type.name(),
                shape.n_embd,
                shape.n_head,
                shape.n_inner
            );
            models.push((name, TinyModel::new(shape, tensor_type)));
        }
    }
    models
}

/// A matrix, the embedding, the positions or a vector stored as each type there is.
fn every_type_everywhere() -> Vec<(String, Vec<u8>)> {
    let wide = Hyperparameters {
        n_embd: 256,
        n_inner: 256,
        vocab_size: 4,
        n_layer: 1,
        ..hyperparameters()
    };
    let model = TinyModel::new(&wide, TensorType::F16);
    let mut files = Vec::new();
    for &tensor_type in TensorType::ALL {
        for name in [
            "token_embd.weight",
            "position_embd.weight",
            "blk.0.attn_qkv.weight",
            "blk.0.ffn_down.weight",
            "blk.0.ffn_norm.weight",
            "blk.0.attn_qkv.bias",
            "output_norm.bias",
        ] {
            let bytes = model.clone().retype(name, tensor_type).bytes();
            files.push((format!("{name} as {}", tensor_type.name()), bytes));
        }
    }
    files
}

/// What of a file is changed: its first `header` bytes say what the rest is.
struct Base {
    bytes: Vec<u8>,
    header: usize,
}

impl Base {
    fn new(model: &TinyModel) -> Self {
        let mut header = GgufHeader::new();
        for (key, value) in &model.pairs {
            header
                .set(key.as_str(), value.clone())
                .expect("a valid key");
        }
        let data: usize = model
            .tensors
            .iter()
            .map(|tensor| tensor.data.len().next_multiple_of(32))
            .sum();
        let bytes = model.bytes();
        Self {
            header: bytes.len() - data,
            bytes,
        }
    }
}

/// Numbers that make trouble in scales and weights: not a number, infinite, the largest, denormal.
const FLOATS: [u32; 6] = [
    0x7FC0_0000,
    0x7F80_0000,
    0xFF7F_FFFF,
    0x0000_0001,
    0x7E00_7C00,
    0xFFFF_FFFF,
];

/// One random change.
fn mutate(bytes: &mut Vec<u8>, header: usize, random: &mut Random) {
    let header = header.min(bytes.len());
    // The second half of the header describes the tensors; what is before is mostly tokens.
    let described = header / 2 + random.below(header / 2);
    let anywhere = random.below(bytes.len());
    match random.below(12) {
        0 => overwrite(bytes, random.below(header), 1, random.next()),
        1 => overwrite(bytes, random.below(600), 4, *random.of(&EXTREMES)),
        2 => overwrite(bytes, described, 1, random.next() % 64),
        3 => overwrite(bytes, described, 1, random.next()),
        4 => overwrite(bytes, described, 8, *random.of(&EXTREMES)),
        5 => bytes.truncate(anywhere.max(1)),
        6 => {
            let bit = 1 << random.below(8);
            bytes[anywhere] ^= bit;
        }
        7 | 8 => overwrite(bytes, anywhere, 4, u64::from(*random.of(&FLOATS))),
        9 => {
            let end = (anywhere + 64 + random.below(4096)).min(bytes.len());
            bytes[anywhere..end].fill(*random.of(&[0, 0x7C, 0x7E, 0xFF]));
        }
        10 => {
            let end = (anywhere + random.below(64)).min(bytes.len());
            let piece = bytes[anywhere..end].to_vec();
            bytes.splice(anywhere..anywhere, piece);
        }
        _ => {
            let from = random.below(bytes.len());
            let count = 8.min(bytes.len() - from).min(bytes.len() - anywhere);
            bytes.copy_within(from..from + count, anywhere);
        }
    }
}

/// Sets keys and types to values that parse and may not fit each other.
fn contradict(mut model: TinyModel, random: &mut Random) -> TinyModel {
    const KEYS: [&str; 5] = [
        "gpt2.context_length",
        "gpt2.embedding_length",
        "gpt2.block_count",
        "gpt2.feed_forward_length",
        "gpt2.attention.head_count",
    ];
    const SIZES: [u32; 14] = [0, 1, 2, 3, 4, 8, 15, 16, 17, 31, 32, 64, 1 << 24, u32::MAX];
    for _ in 0..=random.below(2) {
        let tensor = random.of(&model.tensors).clone();
        let types: Vec<TensorType> = TensorType::ALL
            .iter()
            .copied()
            .filter(|known| known.row_bytes(tensor.shape[0]).is_ok())
            .collect();
        model = match random.below(6) {
            0 | 1 => model.set(random.of::<&str>(&KEYS), *random.of(&SIZES)),
            2 | 3 => model.retype(&tensor.name, *random.of(&types)),
            4 => model.set("general.alignment", *random.of(&[8_u32, 16, 64, 1 << 20])),
            _ => {
                let mut shape = tensor.shape.clone();
                let axis = random.below(shape.len());
                shape[axis] = *random.of(&[1, 2, 16, 32, 64, 96, 256]);
                let whole = tensor.tensor_type.row_bytes(shape[0]).is_ok();
                if whole {
                    model.reshape(&tensor.name, &shape)
                } else {
                    model
                }
            }
        };
    }
    model
}

fn mutated_models(random: &mut Random) -> usize {
    let types = [
        TensorType::Q8_0,
        TensorType::Q4_0,
        TensorType::F16,
        TensorType::F32,
    ];
    let models = types.map(|tensor_type| TinyModel::new(&hyperparameters(), tensor_type));
    let bases = models.each_ref().map(Base::new);
    for (number, base) in bases.iter().enumerate() {
        for run in 0..8 {
            let bytes = base.bytes.clone();
            // A head of 16 is not a multiple of a block of q8_0.
            let expected = run % 4 != 3;
            assert_eq!(
                check("the valid model", || use_model(bytes, run)),
                expected,
                "{number} {run}"
            );
        }
    }
    let mut taken = 0;
    for number in 0..changes(MODELS) {
        let bytes = if number.is_multiple_of(4) {
            contradict(models[number / 4 % 4].clone(), random).bytes()
        } else {
            let base = &bases[number % 4];
            let mut bytes = base.bytes.clone();
            for _ in 0..=random.below(3) {
                mutate(&mut bytes, base.header, random);
            }
            bytes
        };
        taken += usize::from(check(&format!("model {number}"), || {
            use_model(bytes, number)
        }));
    }
    taken
}

/// One random change to one file of a folder.
fn mutate_folder(files: &mut Files, random: &mut Random) {
    let names: Vec<String> = files.keys().cloned().collect();
    let name = random.of(&names);
    if random.below(40) == 0 {
        files.remove(name);
        return;
    }
    let Some(bytes) = files.get_mut(name).filter(|bytes| !bytes.is_empty()) else {
        return;
    };
    let is_weights = name.ends_with("safetensors");
    let header = if is_weights { 2500 } else { bytes.len() };
    let place = random.below(header.min(bytes.len()));
    match random.below(8) {
        0 => bytes[place] = random.next() as u8,
        1 => bytes.truncate(place.max(1)),
        2 if is_weights => overwrite(bytes, 0, 8, *random.of(&EXTREMES)),
        3 if is_weights => {
            let place = random.below(bytes.len());
            overwrite(bytes, place, 4, u64::from(*random.of(&FLOATS)));
        }
        4 => {
            // A digit becomes another: sizes, offsets and ids that parse.
            if let Some(digit) = bytes[place..].iter().position(u8::is_ascii_digit) {
                bytes[place + digit] = b'0' + random.below(10) as u8;
            }
        }
        5 => {
            let json = [
                &b"null"[..],
                b"[]",
                b"{}",
                b"-1",
                b"1e999",
                b"18446744073709551615",
                b"\"\"",
            ];
            let end = bytes[place..]
                .iter()
                .position(|byte| b",:]}".contains(byte));
            let piece = (*random.of(&json)).to_vec();
            bytes.splice(place..place + end.unwrap_or(0), piece);
        }
        _ => {
            let end = (place + random.below(40)).min(bytes.len());
            let piece = bytes[place..end].to_vec();
            bytes.splice(place..if random.below(2) == 0 { place } else { end }, piece);
        }
    }
}

fn convert_folder(folder: &Path, files: &Files, number: usize) -> gpt2::Result<()> {
    for entry in fs::read_dir(folder).expect("a folder").flatten() {
        fs::remove_file(entry.path()).expect("a file that can be removed");
    }
    for (name, bytes) in files {
        fs::write(folder.join(name), bytes).expect("a file that can be written");
    }
    let types = ["f16", "q8_0", "q4_k", "q4_0", "iq4_nl", "q2_k"];
    let options = ConvertOptions {
        threads: Some(1),
        ..ConvertOptions::new(FileType::from_name(types[number % types.len()])?)
    };
    let output = folder.join("out");
    let result = convert(folder, &output, &options, &());
    assert_eq!(
        result.is_ok(),
        output.exists(),
        "an output and an error, or neither"
    );
    result?;
    use_model(fs::read(output).expect("the output"), 1)
}

fn mutated_folders(random: &mut Random) -> usize {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut in_two_files = checkpoint();
    in_two_files.remove("tokenizer.json");
    in_two_files.insert(
        "vocab.json".to_owned(),
        vocabulary_json().to_string().into(),
    );
    in_two_files.insert("merges.txt".to_owned(), merges_txt().into());
    let bases = [checkpoint(), in_two_files];
    let mut taken = 0;
    for number in 0..changes(FOLDERS) {
        let mut files = bases[number % 2].clone();
        for _ in 0..=random.below(2) {
            mutate_folder(&mut files, random);
        }
        let what = format!("folder {number}");
        taken += usize::from(check(&what, || {
            convert_folder(folder.path(), &files, number)
        }));
    }
    taken
}

#[test]
fn no_mutation_breaks_a_model() {
    for (number, (name, model)) in odd_models().into_iter().enumerate() {
        let bytes = model.bytes();
        // Without a quantized cache, which needs heads of whole blocks.
        let run = number - number % 4;
        assert!(check(&name, || use_model(bytes, run)), "{name} was refused");
    }
    let mut accepted = 0;
    for (number, (name, bytes)) in every_type_everywhere().into_iter().enumerate() {
        let run = 4 * number + 1;
        accepted += usize::from(check(&name, || use_model(bytes, run)));
    }
    println!("{accepted} of the places and types accepted");

    let mut random = Random(3);
    for (what, all, taken) in [
        ("models", MODELS, mutated_models(&mut random)),
        ("folders", FOLDERS, mutated_folders(&mut random)),
    ] {
        let tried = changes(all);
        println!("of {tried} mutated {what} {taken} were accepted");
        // Mutations that are all refused would show nothing, and the other way round.
        let expected = tried / 20 + 1..tried * 19 / 20;
        assert!(expected.contains(&taken), "{taken} of {tried} {what}");
    }
}
