//! Writes the inputs that fuzzing starts from, a folder for each target. They are the small valid
//! files that the tests make, and the broken ones.

use std::fs;
use std::path::Path;

use crate::hostile::{
    HostileFolder, bundle, config, gguf, hdf5, msgpack, pickle, raw, safetensors, tiny,
};
use crate::hostile::{tokenizer, writers};

/// Inputs larger than this make fuzzing slow; the files they are of are mostly weights.
const LARGEST: usize = 768 << 10;

/// An input made of parts.
fn joined(parts: &[&[u8]]) -> Vec<u8> {
    parts.join(&0)
}

/// The file `name` of each folder.
fn files(folders: Vec<HostileFolder>, name: &str) -> Vec<Vec<u8>> {
    let folders = folders.into_iter();
    let mut files: Vec<_> = folders
        .filter_map(|mut one| one.files.remove(name))
        .collect();
    files.sort_unstable();
    files.dedup();
    files
}

/// A safetensors file without its weights: its header.
fn header(bytes: &[u8]) -> Vec<u8> {
    let length = bytes
        .first_chunk()
        .map_or(0, |first| u64::from_le_bytes(*first));
    let end = usize::try_from(length)
        .ok()
        .and_then(|length| length.checked_add(8));
    end.and_then(|end| bytes.get(..end))
        .unwrap_or(bytes)
        .to_vec()
}

fn tokenizers() -> Vec<Vec<u8>> {
    let text = "Ġthe, It's 42\n <|endoftext|>é".as_bytes();
    let json = tiny::tokenizer_json().to_string();
    let mut seeds = vec![
        [
            &[0],
            &joined(&[json.as_bytes(), b"", b"{}", b"{}", text])[..],
        ]
        .concat(),
    ];
    for case in tokenizer::tokenizer_cases() {
        let file = |name: &str| case.files.get(name).map_or(&b""[..], Vec::as_slice);
        let kind = u8::from(!case.files.contains_key("tokenizer.json"));
        let firsts = [
            ["tokenizer.json", "added_tokens.json"],
            ["vocab.json", "merges.txt"],
        ];
        let [first, second] = firsts[usize::from(kind)];
        let parts = [
            file(first),
            file(second),
            file("tokenizer_config.json"),
            file("special_tokens_map.json"),
            text,
        ];
        seeds.push([&[kind], &joined(&parts)[..]].concat());
    }
    seeds
}

fn configs() -> Vec<Vec<u8>> {
    let valid = tiny::config().to_string();
    let generation = r#"{"eos_token_id": [259], "do_sample": true, "top_k": 50, "top_p": 0.7}"#;
    let tokens = r#"{"bos_token": "<|endoftext|>", "add_bos_token": true}"#;
    let mut seeds = vec![joined(&[
        valid.as_bytes(),
        generation.as_bytes(),
        tokens.as_bytes(),
        b"{}",
    ])];
    for bytes in files(config::config_cases(), "config.json") {
        seeds.push(joined(&[&bytes, b"{}", b"{}", b"{}"]));
    }
    seeds
}

fn adapters() -> Vec<Vec<u8>> {
    let config = r#"{"peft_type": "LORA", "r": 1, "lora_alpha": 2, "use_rslora": true,
        "alpha_pattern": {"h\\.0\\..*": 3}, "rank_pattern": {"h.1.attn.c_attn": 1}}"#;
    let entry = |name: &str, shape: &str, start: usize, end: usize| {
        format!(
            "\"base_model.model.transformer.{name}\": {{\"dtype\": \"F32\", \
             \"shape\": {shape}, \"data_offsets\": [{start}, {end}]}}"
        )
    };
    let linear = [
        entry("h.0.attn.c_attn.lora_A.weight", "[1, 32]", 0, 128),
        entry("h.0.attn.c_attn.lora_B.weight", "[96, 1]", 128, 512),
        entry("h.0.attn.c_attn.lora_magnitude_vector", "[96]", 512, 896),
        entry("ln_f.weight", "[32]", 896, 1024),
    ];
    let embedding = [
        entry("wpe.lora_embedding_A", "[1, 16]", 0, 64),
        entry("wpe.lora_embedding_B", "[32, 1]", 64, 192),
    ];
    [&linear[..], &embedding]
        .map(|entries| {
            let json = format!("{{{}}}", entries.join(", "));
            let mut weights = (json.len() as u64).to_le_bytes().to_vec();
            weights.extend(json.into_bytes());
            // The parts are told by zeros, and the length has some: it is the last part.
            joined(&[config.as_bytes(), &weights])
        })
        .to_vec()
}

fn tensorflow() -> Vec<Vec<u8>> {
    let block = bundle::block_of(1, &bundle::variables().0);
    let mut seeds = vec![[&[0], &block[..]].concat()];
    for index in files(bundle::bundle_cases(), "model.ckpt.index") {
        seeds.push([&[1], &index[..]].concat());
    }
    seeds
}

fn chats() -> Vec<Vec<u8>> {
    [
        "{% for message in messages %}<|{{ message.role }}|>\
         {{ message['content'] | trim }}{% endfor %}",
        "{%- if messages[0].role == 'system' %}{% set loop_messages = messages[1:] %}{% endif %}\
         {{ bos_token }}{% for m in loop_messages %}{{ m.content ~ eos_token }}{% endfor %}\
         {% if add_generation_prompt %}{{ 'assistant:' }}{% endif %}",
        "{% macro x(a) %}{{ a.split(' ')[::-1] | join('-') }}{% endmacro %}\
         {{ x(messages[-1].content) }}{{ raise_exception('no') }}{{ strftime_now('%Y') }}\
         {% for i in range(3) %}{% if i == 1 %}{% continue %}{% endif %}\
         {{ i | tojson }}{% endfor %}",
    ]
    .map(|template| joined(&[template.as_bytes(), b"be kind", b"hello you", b"hi"]))
    .to_vec()
}

/// Training checkpoints as other programs write them, from the tests' data where it has some.
fn committed(folder: &str, endings: &[&str]) -> Vec<Vec<u8>> {
    let data = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../tests/data")
        .join(folder);
    let entries = fs::read_dir(data).into_iter().flatten().flatten();
    let paths = entries.map(|entry| entry.path());
    let mut paths: Vec<_> = paths
        .filter(|path| {
            endings
                .iter()
                .any(|end| path.to_string_lossy().ends_with(end))
        })
        .collect();
    paths.sort_unstable();
    paths
        .into_iter()
        .filter_map(|path| fs::read(path).ok())
        .collect()
}

fn lines() -> Vec<Vec<u8>> {
    let line = |words: &[u16]| words.iter().flat_map(|word| word.to_be_bytes()).collect();
    (0..40_u16)
        .map(|command| line(&[command, 7 * command + 1, 5, 9 * command + 4, 8, 3 * command]))
        .collect()
}

/// Writes all of them into `folder`.
pub fn write(folder: &Path) {
    let model = tiny::TinyModel::tiny().bytes();
    let ggufs: Vec<_> = gguf::gguf_cases()
        .into_iter()
        .chain(gguf::gguf_value_cases())
        .map(|case| case.bytes)
        .chain([raw::valid().bytes, model.clone()])
        .collect();
    let weights = writers::weights();
    let floats = writers::ELEMENTS[0];
    let checkpoint = writers::safetensors(&weights, floats);
    let mut safetensors = files(safetensors::safetensors_cases(), "model.safetensors");
    safetensors.push(checkpoint);
    let safetensors = safetensors.iter().map(|bytes| header(bytes)).collect();
    let mut pickles = files(pickle::pickle_cases(), "pytorch_model.bin");
    for mut valid in [pickle::valid_archive(), pickle::valid_stream()] {
        pickles.extend(valid.remove("pytorch_model.bin"));
    }
    let mut hdf5s = files(hdf5::hdf5_cases(), "tf_model.h5");
    hdf5s.push(hdf5::VALID.to_vec());
    let mut msgpacks = files(msgpack::msgpack_cases(), "flax_model.msgpack");
    msgpacks.push(writers::msgpack(&weights, floats, 8192));
    let mut nanogpts = committed("checkpoints/nanogpt", &[".pt"]);
    nanogpts.extend(pickles.iter().take(20).cloned());
    let mut llm_c = committed("checkpoints/llm_c", &[".bin"]);
    for version in [3_u32, 5] {
        let fields = [20_240_326, version, 16, 260, 2, 2, 32, 260];
        let mut bytes: Vec<u8> = fields
            .iter()
            .flat_map(|field| field.to_le_bytes())
            .collect();
        bytes.resize(1024, 0);
        llm_c.push(bytes);
    }
    for (target, seeds) in [
        ("gguf", ggufs),
        ("model", vec![model]),
        ("safetensors", safetensors),
        ("pickle", pickles),
        ("nanogpt", nanogpts),
        ("llm_c", llm_c),
        ("hdf5", hdf5s),
        ("msgpack", msgpacks),
        ("tensorflow", tensorflow()),
        ("config", configs()),
        ("lora", adapters()),
        ("tokenizer", tokenizers()),
        ("chat", chats()),
        ("generate_command", lines()),
        ("convert_command", lines()),
    ] {
        let folder = folder.join(target);
        fs::create_dir_all(&folder).expect("a folder for the seeds");
        let seeds = seeds.iter().filter(|seed| seed.len() <= LARGEST);
        for (number, seed) in seeds.enumerate() {
            fs::write(folder.join(format!("seed-{number:03}")), seed).expect("room for a seed");
        }
    }
}
