//! Conversions from end to end: the demo model to every type, and small checkpoints made here for
//! what the demo model does not have.

mod checkpoint;
mod classes;
#[cfg(all(feature = "pickle", feature = "hdf5", feature = "msgpack"))]
mod formats;
#[cfg(all(feature = "pickle", feature = "hdf5", feature = "msgpack"))]
#[path = "../hostile/mod.rs"]
mod hostile;
mod refusals;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use checkpoint::Checkpoint;
use gpt2::convert::{
    ConvertOptions, FILE_TYPES, FileType, Report, TypeOverride, convert, plan,
    tensor_type_from_name,
};
use gpt2::gguf::TensorType as T;
use gpt2::gguf::{Gguf, TensorType};
use gpt2::spec::Hyperparameters;
use tempfile::TempDir;

fn demo() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("models/austen-gpt2")
}

fn options(name: &str) -> ConvertOptions {
    ConvertOptions::new(FileType::from_name(name).unwrap())
}

/// Converts and opens the result.
fn converted(source: &Path, output: &Path, options: &ConvertOptions) -> (Report, Gguf) {
    let report = convert(source, output, options, &()).unwrap();
    let bytes = fs::read(output).unwrap();
    assert_eq!(bytes.len() as u64, report.plan.bytes);
    (report, Gguf::parse(Arc::new(bytes)).unwrap())
}

fn data<'a>(gguf: &'a Gguf, name: &str) -> &'a [u8] {
    gguf.tensor_data(gguf.tensor(name).unwrap())
}

fn floats(gguf: &Gguf, name: &str) -> Vec<f32> {
    data(gguf, name)
        .chunks_exact(4)
        .map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap()))
        .collect()
}

fn type_of(gguf: &Gguf, name: &str) -> TensorType {
    gguf.tensor(name).unwrap().tensor_type
}

#[test]
fn the_demo_model_becomes_every_type() {
    let folder = TempDir::new().unwrap();
    for file_type in FILE_TYPES {
        let options = ConvertOptions::new(file_type);
        let output = folder.path().join(format!("{}.gguf", file_type.name()));
        let (report, gguf) = converted(&demo(), &output, &options);
        let planned = plan(&demo(), &options).unwrap();
        assert_eq!(planned.bytes, report.plan.bytes, "{}", file_type.name());
        assert_eq!(planned.tensors, report.plan.tensors, "{}", file_type.name());
        let number = gguf.metadata().required_u32("general.file_type").unwrap();
        assert_eq!(number, file_type.number);
        let model = Hyperparameters::from_gguf(&gguf).unwrap();
        assert_eq!((model.vocab_size, model.n_layer), (4096, 6));
        assert_eq!((model.bos, model.eos), (Some(4095), vec![4095]));
        assert_eq!(type_of(&gguf, "position_embd.weight"), TensorType::F32);
        assert_eq!(type_of(&gguf, "blk.3.attn_qkv.bias"), TensorType::F32);
        assert_eq!(type_of(&gguf, "blk.3.ffn_up.weight"), file_type.base);
        let worst = report.relative_errors.iter().copied().fold(0.0, f64::max);
        println!(
            "{:8} {:.3} bits per weight, largest relative error {worst:.5}",
            file_type.name(),
            report.plan.bits_per_weight
        );
        gpt2::tokenizer::Tokenizer::from_metadata(gguf.metadata()).unwrap();
    }
}

#[test]
fn the_embedded_model_is_what_the_converter_makes() {
    let folder = TempDir::new().unwrap();
    let output = folder.path().join("remade.gguf");
    convert(&demo(), &output, &options("q8_0"), &()).unwrap();
    let committed = fs::read(demo().with_file_name("austen-gpt2-q8_0.gguf")).unwrap();
    assert!(
        fs::read(&output).unwrap() == committed,
        "models/austen-gpt2-q8_0.gguf differs; remake it with \
         gpt2-convert models/austen-gpt2 -o models/austen-gpt2-q8_0.gguf --type q8_0 --force"
    );
}

#[test]
fn threads_do_not_change_a_byte() {
    let folder = TempDir::new().unwrap();
    let mut files = Vec::new();
    for threads in [1, 2, 5] {
        let output = folder.path().join(format!("{threads}.gguf"));
        let options = ConvertOptions {
            threads: Some(threads),
            ..options("q4_k")
        };
        let report = convert(&demo(), &output, &options, &()).unwrap();
        files.push((fs::read(&output).unwrap(), report.relative_errors));
    }
    assert!(files.windows(2).all(|pair| pair[0] == pair[1]));
}

#[test]
fn a_gguf_source_gives_the_same_tensors() {
    let folder = TempDir::new().unwrap();
    let full = folder.path().join("f32.gguf");
    convert(&demo(), &full, &options("f32"), &()).unwrap();
    let direct = folder.path().join("direct.gguf");
    let (_, direct) = converted(&demo(), &direct, &options("q4_0"));
    let twice = folder.path().join("twice.gguf");
    let (report, twice) = converted(&full, &twice, &options("q4_0"));
    for info in direct.tensors() {
        assert_eq!(
            data(&direct, &info.name),
            data(&twice, &info.name),
            "{}",
            info.name
        );
    }
    for key in [
        "general.name",
        "tokenizer.ggml.tokens",
        "gpt2_edge.generation_config",
    ] {
        assert_eq!(
            direct.metadata().to_value(key).unwrap(),
            twice.metadata().to_value(key).unwrap()
        );
    }
    assert!(
        report.plan.warnings.is_empty(),
        "{:?}",
        report.plan.warnings
    );
    let again = folder.path().join("again.gguf");
    let options = options("q8_0");
    let (report, _) = converted(&folder.path().join("twice.gguf"), &again, &options);
    assert!(
        report
            .plan
            .warnings
            .iter()
            .any(|warning| warning.contains("quantized already"))
    );
}

#[test]
fn linear_layers_are_transposed_and_embeddings_are_not() {
    let folder = TempDir::new().unwrap();
    let checkpoint = Checkpoint::new(64, 2, true);
    checkpoint.write(folder.path());
    let (report, gguf) = converted(
        folder.path(),
        &folder.path().join("out.gguf"),
        &options("f32"),
    );
    assert!(report.relative_errors.iter().all(|error| *error == 0.0));
    let (shape, stored) = &checkpoint.tensors["transformer.h.1.mlp.c_fc.weight"];
    let (inputs, outputs) = (shape[0], shape[1]);
    let found = floats(&gguf, "blk.1.ffn_up.weight");
    for output in 0..outputs {
        for input in 0..inputs {
            assert_eq!(
                found[output * inputs + input],
                stored[input * outputs + output]
            );
        }
    }
    let (_, embedding) = &checkpoint.tensors["transformer.wte.weight"];
    assert_eq!(&floats(&gguf, "token_embd.weight"), embedding);
    assert!(gguf.tensor("output.weight").is_none());
    assert!(
        report
            .plan
            .warnings
            .iter()
            .any(|warning| warning.contains("tokenizer"))
    );
}

#[test]
fn shards_bare_names_and_buffers_make_no_difference() {
    let folder = TempDir::new().unwrap();
    let mut checkpoint = Checkpoint::new(64, 2, true);
    checkpoint.write(folder.path());
    let expected = folder.path().join("expected.gguf");
    let (_, expected) = converted(folder.path(), &expected, &options("q8_0"));

    let sharded = TempDir::new().unwrap();
    checkpoint.write_sharded(sharded.path());
    let (_, from_shards) = converted(
        sharded.path(),
        &sharded.path().join("o.gguf"),
        &options("q8_0"),
    );

    checkpoint.tensors = std::mem::take(&mut checkpoint.tensors)
        .into_iter()
        .map(|(name, tensor)| (name.replace("transformer.", ""), tensor))
        .collect();
    let buffer = (vec![1, 1, 2, 2], vec![1.0; 4]);
    checkpoint
        .tensors
        .insert("h.0.attn.bias".to_owned(), buffer);
    let bare = TempDir::new().unwrap();
    checkpoint.write(bare.path());
    let file = bare.path().join("model.safetensors");
    let (report, from_bare) = converted(&file, &bare.path().join("o.gguf"), &options("q8_0"));
    assert!(
        !report
            .plan
            .warnings
            .iter()
            .any(|warning| warning.contains("attn.bias"))
    );
    for info in expected.tensors() {
        assert_eq!(data(&expected, &info.name), data(&from_shards, &info.name));
        assert_eq!(data(&expected, &info.name), data(&from_bare, &info.name));
    }
}

#[test]
fn a_head_is_stored_once_or_kept_apart_as_the_weights_say() {
    let folder = TempDir::new().unwrap();
    let mut checkpoint = Checkpoint::new(64, 2, false);
    checkpoint.write(folder.path());
    let output = folder.path().join("out.gguf");
    let (_, gguf) = converted(folder.path(), &output, &options("q4_0"));
    assert_eq!(type_of(&gguf, "token_embd.weight"), TensorType::Q4_0);
    // 64 columns are not a multiple of q6_k's block size.
    assert_eq!(type_of(&gguf, "output.weight"), TensorType::Q8_0);
    assert!(!Hyperparameters::from_gguf(&gguf).unwrap().tied_head);

    // The configuration claims a tie the weights deny: both stay, and it is said.
    checkpoint.config["tie_word_embeddings"] = true.into();
    checkpoint.write(folder.path());
    let replacing = ConvertOptions {
        overwrite: true,
        ..options("q4_0")
    };
    let (report, gguf) = converted(folder.path(), &output, &replacing);
    assert!(gguf.tensor("output.weight").is_some());
    assert!(
        report
            .plan
            .warnings
            .iter()
            .any(|warning| warning.contains("differs"))
    );

    // Equal weights are one tensor, whatever the configuration says.
    let embedding = checkpoint.tensors["transformer.wte.weight"].clone();
    checkpoint
        .tensors
        .insert("lm_head.weight".to_owned(), embedding);
    checkpoint.config["tie_word_embeddings"] = false.into();
    checkpoint.write(folder.path());
    let (_, gguf) = converted(folder.path(), &output, &replacing);
    assert!(gguf.tensor("output.weight").is_none());
}

#[test]
fn types_that_do_not_fit_the_columns_fall_back_and_say_so() {
    let folder = TempDir::new().unwrap();
    Checkpoint::new(96, 2, true).write(folder.path());
    let planned = plan(folder.path(), &options("q4_k_s")).unwrap();
    let tensor = |name: &str| {
        let found = planned
            .tensors
            .iter()
            .find(|tensor| tensor.name == name)
            .unwrap();
        (found.tensor_type, found.fallback_from)
    };
    assert_eq!(tensor("blk.0.ffn_up.weight"), (T::Q5_0, Some(T::Q4_K)));
    assert_eq!(tensor("blk.0.attn_qkv.weight"), (T::Q5_1, Some(T::Q5_K)));
    assert_eq!(tensor("token_embd.weight"), (T::Q8_0, Some(T::Q6_K)));
    assert_eq!(tensor("blk.0.ffn_up.bias"), (T::F32, None));
    assert!(
        planned
            .warnings
            .iter()
            .any(|warning| warning.contains("q5_0 instead of q4_k"))
    );

    Checkpoint::new(20, 1, true).write(folder.path());
    let planned = plan(folder.path(), &options("q4_0")).unwrap();
    let up = planned
        .tensors
        .iter()
        .find(|tensor| tensor.name == "blk.0.ffn_up.weight")
        .unwrap();
    assert_eq!((up.tensor_type, up.fallback_from), (T::F16, Some(T::Q4_0)));
}

#[test]
fn asked_types_go_before_the_mix() {
    let mut options = options("q4_0");
    options.types.overrides = vec![
        TypeOverride::parse(r"blk\.[01]\.ffn_(up|down)=q8_0").unwrap(),
        TypeOverride::parse("ffn_up=f16").unwrap(),
    ];
    options.types.output_type = Some(tensor_type_from_name("Q5_K").unwrap());
    let planned = plan(&demo(), &options).unwrap();
    let type_of = |name: &str| {
        planned
            .tensors
            .iter()
            .find(|tensor| tensor.name == name)
            .unwrap()
            .tensor_type
    };
    assert_eq!(type_of("blk.1.ffn_up.weight"), TensorType::Q8_0);
    assert_eq!(type_of("blk.2.ffn_up.weight"), TensorType::F16);
    assert_eq!(type_of("blk.2.ffn_down.weight"), TensorType::Q4_0);
    // The head is the embedding, so the head's option decides.
    assert_eq!(type_of("token_embd.weight"), TensorType::Q5_K);
    options.types.embedding_type = Some(TensorType::F16);
    let planned = plan(&demo(), &options).unwrap();
    assert_eq!(planned.tensors[0].tensor_type, TensorType::F16);
    assert!(TypeOverride::parse("ffn_up").is_err());
    assert!(TypeOverride::parse("(=q8_0").is_err());
    assert!(TypeOverride::parse("ffn_up=q9").is_err());
    assert!(FileType::from_name("q4_k_xl").is_err());
}
