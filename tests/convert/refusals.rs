//! What is not converted, and that nothing is left behind then.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use gpt2::Error;
use gpt2::convert::{ConvertOptions, Progress, convert};
use gpt2::gguf::{GgufHeader, GgufWriter, TensorType};
use tempfile::TempDir;

use crate::checkpoint::{Checkpoint, write_file};
use crate::{converted, data, demo, options};

/// Writes the checkpoint, fails to convert it, and gives the message.
pub(crate) fn refusal(checkpoint: &Checkpoint) -> String {
    let folder = TempDir::new().unwrap();
    checkpoint.write(folder.path());
    refused(folder.path(), folder.path(), &options("q8_0"))
}

/// Fails to convert `source` and gives the message; `folder` must stay as it was.
fn refused(source: &Path, folder: &Path, options: &ConvertOptions) -> String {
    let before = fs::read_dir(folder).unwrap().count();
    let error = convert(source, &folder.join("out.gguf"), options, &()).unwrap_err();
    assert_eq!(
        fs::read_dir(folder).unwrap().count(),
        before,
        "something was left behind"
    );
    error.to_string()
}

#[test]
fn broken_weights_are_named() {
    let name = "transformer.h.1.mlp.c_proj.weight";
    let mut nan = Checkpoint::new(64, 2, true);
    nan.tensors.get_mut(name).unwrap().1[70] = f32::NAN;
    let message = refusal(&nan);
    // Stored as [128, 64], so element 70 is input 1 of output 6.
    assert!(
        message.contains(name) && message.contains("row 6, column 1"),
        "{message}"
    );

    let mut missing = Checkpoint::new(64, 2, true);
    missing.tensors.remove(name).unwrap();
    let message = refusal(&missing);
    assert!(
        message.contains("h.1.mlp.c_proj.weight") && message.contains("missing"),
        "{message}"
    );

    let mut turned = Checkpoint::new(64, 2, true);
    turned.tensors.get_mut(name).unwrap().0.reverse();
    let message = refusal(&turned);
    assert!(message.contains("Conv1D"), "{message}");

    let mut more = Checkpoint::new(64, 3, true);
    more.config["n_layer"] = 2.into();
    let message = refusal(&more);
    assert!(message.contains("h.2."), "{message}");

    let mut doubled = Checkpoint::new(64, 2, true);
    let again = doubled.tensors[name].clone();
    doubled
        .tensors
        .insert(name.replace("transformer.", ""), again);
    let message = refusal(&doubled);
    assert!(message.contains("with and without the prefix"), "{message}");

    let mut extra = Checkpoint::new(64, 2, true);
    extra.tensors.insert(
        "v_head.summary.weight".to_owned(),
        (vec![1, 64], vec![0.5; 64]),
    );
    let folder = TempDir::new().unwrap();
    extra.write(folder.path());
    let (report, _) = converted(
        folder.path(),
        &folder.path().join("o.gguf"),
        &options("q8_0"),
    );
    assert!(
        report
            .plan
            .warnings
            .iter()
            .any(|warning| warning.contains("v_head"))
    );
}

#[test]
fn what_another_model_has_is_refused_by_name() {
    let mut crossing = Checkpoint::new(64, 2, true);
    crossing.config["add_cross_attention"] = true.into();
    let message = refusal(&crossing);
    assert!(message.contains("cross-attention"), "{message}");

    // The configuration is silent, the tensors are not.
    for part in ["crossattention.q_attn.weight", "ln_cross_attn.weight"] {
        let mut crossing = Checkpoint::new(64, 2, true);
        let name = format!("transformer.h.0.{part}");
        crossing
            .tensors
            .insert(name, (vec![64, 64], vec![0.5; 64 * 64]));
        let message = refusal(&crossing);
        assert!(
            message.contains("cross-attention") && message.contains(part),
            "{message}"
        );
    }

    let mut activation = Checkpoint::new(64, 2, true);
    activation.config["activation_function"] = "prelu".into();
    let message = refusal(&activation);
    assert!(
        message.contains("prelu") && message.contains("gelu_new"),
        "{message}"
    );

    let mut headless = Checkpoint::new(64, 2, true);
    headless.config["tie_word_embeddings"] = false.into();
    let message = refusal(&headless);
    assert!(message.contains("lm_head.weight"), "{message}");
}

#[test]
fn a_tensor_that_could_change_the_results_is_refused() {
    for (name, word) in [
        ("transformer.emb_norm.weight", "GROVER"),
        ("emb_norm.bias", "GROVER"),
        ("transformer.rotary_emb.inv_freq", "rotary"),
        ("lm_head.bias", "a head with a bias"),
        ("prefix_encoder.embedding.weight", "prefix"),
        ("something.new", "another kind"),
    ] {
        let mut other = Checkpoint::new(64, 2, true);
        other
            .tensors
            .insert(name.to_owned(), (vec![64], vec![0.5; 64]));
        let message = refusal(&other);
        let path = name.strip_prefix("transformer.").unwrap_or(name);
        assert!(
            message.contains(path) && message.contains(word) && message.contains("remove it"),
            "{message}"
        );
    }
}

#[test]
fn weights_in_another_librarys_form_are_named() {
    for (name, word) in [
        ("transformer.h.0.attn.c_attn.qweight", "GPTQ or AWQ"),
        ("transformer.h.0.attn.c_attn.weight.absmax", "bitsandbytes"),
        (
            "base_model.model.transformer.h.0.attn.c_attn.lora_A.weight",
            "adapter",
        ),
    ] {
        let mut other = Checkpoint::new(64, 2, true);
        other
            .tensors
            .insert(name.to_owned(), (vec![64], vec![0.5; 64]));
        let message = refusal(&other);
        assert!(message.contains(word), "{message}");
    }
    let mut other = Checkpoint::new(64, 2, true);
    other.config["quantization_config"] = serde_json::json!({"quant_method": "gptq", "bits": 4});
    let message = refusal(&other);
    assert!(
        message.contains("'gptq'") && message.contains("made from"),
        "{message}"
    );
}

#[test]
fn a_tensor_with_a_wrappers_prefix_and_without_is_refused() {
    let name = "transformer.h.1.mlp.c_proj.weight";
    let mut doubled = Checkpoint::new(64, 2, true);
    let again = doubled.tensors[name].clone();
    doubled.tensors = std::mem::take(&mut doubled.tensors)
        .into_iter()
        .map(|(name, tensor)| (format!("module.{name}"), tensor))
        .collect();
    doubled.tensors.insert(name.to_owned(), again.clone());
    let message = refusal(&doubled);
    assert!(message.contains("with and without the prefix"), "{message}");

    // Two models side by side.
    let mut two = Checkpoint::new(64, 2, true);
    let embedding = two.tensors["transformer.wte.weight"].clone();
    two.tensors.insert("ema.wte.weight".to_owned(), embedding);
    let message = refusal(&two);
    assert!(message.contains("'ema.'"), "{message}");
}

#[test]
fn a_file_that_stands_in_for_weights_is_named() {
    let lfs = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n";
    let page = b"<!DOCTYPE html>\n<html><head></head></html>";
    let ggml = [&0x6767_6a74_u32.to_le_bytes()[..], &[3; 64]].concat();
    for name in [
        "model.safetensors",
        "pytorch_model.bin",
        "tf_model.h5",
        "flax_model.msgpack",
        "model.safetensors.index.json",
        "config.json",
        "generation_config.json",
        "tokenizer.json",
    ] {
        for (bytes, word) in [
            (&lfs[..], "git lfs pull"),
            (&page[..], "web page"),
            (b"", "empty"),
            (&ggml, "before GGUF"),
            (b"{\"error\": \"Repository not found\"}", "JSON"),
        ] {
            let is_weights = !name.contains(".json");
            if !is_weights && ["before GGUF", "JSON"].contains(&word) {
                continue;
            }
            let folder = TempDir::new().unwrap();
            Checkpoint::new(64, 2, true).write(folder.path());
            if is_weights || name.contains("index") {
                fs::remove_file(folder.path().join("model.safetensors")).unwrap();
            }
            fs::write(folder.path().join(name), bytes).unwrap();
            let message = refused(folder.path(), folder.path(), &options("q8_0"));
            assert!(
                message.contains(word) && message.contains(name),
                "{name}: {message}"
            );
        }
    }
}

#[test]
fn weights_under_another_formats_name_are_read() {
    let folder = TempDir::new().unwrap();
    Checkpoint::new(64, 2, true).write(folder.path());
    let named = folder.path().join("model.safetensors");
    let (_, expected) = converted(
        folder.path(),
        &folder.path().join("expected.gguf"),
        &options("f32"),
    );
    for name in ["weights.bin", "weights.gguf", "weights"] {
        let other = folder.path().join(name);
        fs::copy(&named, &other).unwrap();
        let output = folder.path().join(format!("{name}.out.gguf"));
        let (_, found) = converted(&other, &output, &options("f32"));
        for info in expected.tensors() {
            assert_eq!(data(&expected, &info.name), data(&found, &info.name));
        }
    }
    let file = folder.path().join("config.json");
    let message = refused(&file, folder.path(), &options("f32"));
    assert!(message.contains("name the folder"), "{message}");
}

#[test]
fn a_checkpoint_without_a_configuration_says_so() {
    let folder = TempDir::new().unwrap();
    Checkpoint::new(64, 2, true).write(folder.path());
    fs::remove_file(folder.path().join("config.json")).unwrap();
    let message = refused(folder.path(), folder.path(), &options("f32"));
    assert!(message.contains("no config.json beside"), "{message}");
}

#[test]
fn a_part_of_a_split_model_is_refused_by_name() {
    let folder = TempDir::new().unwrap();
    let mut header = GgufHeader::new();
    header.set("split.count", 2_u32).unwrap();
    header.set("split.no", 1_u32).unwrap();
    let part = folder.path().join("big-00002-of-00002.gguf");
    GgufWriter::create(&part, &header, true)
        .unwrap()
        .finish()
        .unwrap();
    let message = refused(&part, folder.path(), &options("f32"));
    let model = gpt2::Model::open(&part, &gpt2::ModelOptions::default());
    for message in [message, model.unwrap_err().to_string()] {
        assert!(
            message.contains("big-00001-of-00002.gguf") && message.contains("llama-gguf-split"),
            "{message}"
        );
    }
}

#[test]
fn broken_shards_are_named() {
    let checkpoint = Checkpoint::new(64, 2, true);
    let folder = TempDir::new().unwrap();
    checkpoint.write_sharded(folder.path());
    let second = folder.path().join("model-00002-of-00002.safetensors");
    let kept = fs::read(&second).unwrap();

    fs::remove_file(&second).unwrap();
    let message = refused(folder.path(), folder.path(), &options("q8_0"));
    assert!(
        message.contains("model-00002-of-00002.safetensors' is missing"),
        "{message}"
    );

    fs::write(&second, &kept[..kept.len() - 4]).unwrap();
    let message = refused(folder.path(), folder.path(), &options("q8_0"));
    assert!(message.contains("truncated"), "{message}");

    // A tensor of the first shard in the second too.
    let half = checkpoint.tensors.len() / 2;
    write_file(&second, checkpoint.tensors.iter().skip(half - 1));
    let message = refused(folder.path(), folder.path(), &options("q8_0"));
    assert!(message.contains("appears twice"), "{message}");

    write_file(&second, checkpoint.tensors.iter().skip(half + 1));
    let message = refused(folder.path(), folder.path(), &options("q8_0"));
    assert!(message.contains("is not in its shard"), "{message}");

    let index = folder.path().join("model.safetensors.index.json");
    fs::write(
        &index,
        r#"{"weight_map": {"wte.weight": "../model.safetensors"}}"#,
    )
    .unwrap();
    let message = refused(folder.path(), folder.path(), &options("q8_0"));
    assert!(message.contains("beside the index"), "{message}");
}

#[test]
fn broken_headers_are_named() {
    let folder = TempDir::new().unwrap();
    Checkpoint::new(64, 2, true).write(folder.path());
    let file = folder.path().join("model.safetensors");
    let with_header = |json: &str, data: usize| {
        let mut bytes = (json.len() as u64).to_le_bytes().to_vec();
        bytes.extend_from_slice(json.as_bytes());
        bytes.resize(bytes.len() + data, 0);
        bytes
    };
    let one = |dtype: &str, shape: &str, offsets: &str| {
        format!(
            r#"{{"wte.weight":{{"dtype":"{dtype}","shape":{shape},"data_offsets":{offsets}}}}}"#
        )
    };
    for (bytes, word) in [
        (vec![1, 2, 3], "at least 8 bytes"),
        (vec![255; 16], "announces"),
        (with_header("[]", 0), "an object of tensors"),
        (with_header("{\"a\":", 0), "EOF"),
        (with_header(&one("F13", "[1]", "[0,4]"), 4), "F13"),
        (with_header(&one("F32", "[1]", "[0,8]"), 8), "needs 4 bytes"),
        (with_header(&one("F32", "[2]", "[0,8]"), 4), "outside"),
        (with_header(&one("F32", "[2]", "[8,0]"), 8), "outside"),
        (
            with_header(&one("F32", "[4294967296,4294967296,2]", "[0,8]"), 8),
            "too large",
        ),
        (
            with_header(
                r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},
                    "b":{"dtype":"F32","shape":[1],"data_offsets":[2,6]}}"#,
                8,
            ),
            "overlaps",
        ),
        (
            with_header(
                r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},
                    "a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}"#,
                8,
            ),
            "appears twice",
        ),
    ] {
        fs::write(&file, bytes).unwrap();
        let message = refused(folder.path(), folder.path(), &options("q8_0"));
        assert!(
            message.contains(word) && message.contains("model.safetensors"),
            "{message}"
        );
    }
}

#[test]
fn other_formats_and_empty_folders_are_named() {
    let folder = TempDir::new().unwrap();
    let message = refused(folder.path(), folder.path(), &options("f16"));
    assert!(message.contains("model.safetensors"), "{message}");
    fs::write(folder.path().join("pytorch_model.bin"), b"x").unwrap();
    let message = refused(folder.path(), folder.path(), &options("f16"));
    assert!(message.contains("pytorch_model.bin"), "{message}");
    let missing = folder.path().join("nowhere");
    let message = refused(&missing, folder.path(), &options("f16"));
    assert!(message.contains("nowhere"), "{message}");
}

#[test]
fn outputs_are_not_overwritten_and_sources_never() {
    let folder = TempDir::new().unwrap();
    let output = folder.path().join("out.gguf");
    convert(&demo(), &output, &options("q8_0"), &()).unwrap();
    let before = fs::read(&output).unwrap();
    let error = convert(&demo(), &output, &options("q4_0"), &()).unwrap_err();
    assert!(matches!(error, Error::Exists(_)), "{error}");
    let forced = ConvertOptions {
        overwrite: true,
        ..options("q4_0")
    };
    let message = convert(&output, &output, &forced, &())
        .unwrap_err()
        .to_string();
    assert!(message.contains("source and output"), "{message}");
    assert_eq!(fs::read(&output).unwrap(), before);
    convert(&demo(), &output, &forced, &()).unwrap();
    assert_ne!(fs::read(&output).unwrap(), before);
}

#[test]
fn a_stopped_conversion_leaves_nothing() {
    /// Says stop at the third piece.
    struct Impatient(AtomicUsize);
    impl Progress for Impatient {
        fn proceed(&self) -> bool {
            self.0.fetch_add(1, Ordering::Relaxed) < 2
        }
    }
    let folder = TempDir::new().unwrap();
    let output = folder.path().join("out.gguf");
    let progress = Impatient(AtomicUsize::new(0));
    let error = convert(&demo(), &output, &options("q8_0"), &progress).unwrap_err();
    assert!(matches!(error, Error::Stopped), "{error}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

/// An importance matrix for one matrix of the demo model.
fn write_importance(path: &Path, columns: u64) {
    let mut header = GgufHeader::new();
    header.set("general.type", "imatrix").unwrap();
    let name = "blk.0.ffn_up.weight";
    header
        .tensor(format!("{name}.in_sum2"), &[columns, 1], TensorType::F32)
        .unwrap();
    header
        .tensor(format!("{name}.counts"), &[1, 1], TensorType::F32)
        .unwrap();
    let mut writer = GgufWriter::create(path, &header, true).unwrap();
    for column in 0..columns {
        let importance = if column < 16 { 1000.0_f32 } else { 0.01 };
        writer.write(&importance.to_le_bytes()).unwrap();
    }
    writer.write(&4.0_f32.to_le_bytes()).unwrap();
    writer.finish().unwrap();
}

#[test]
fn an_importance_matrix_is_used_where_it_speaks_and_must_fit() {
    let folder = TempDir::new().unwrap();
    let importance = folder.path().join("imatrix.gguf");
    write_importance(&importance, 256);
    let plain = folder.path().join("plain.gguf");
    let (_, plain) = converted(&demo(), &plain, &options("q4_k"));
    let with = ConvertOptions {
        importance: Some(importance.clone()),
        ..options("q4_k")
    };
    let weighted = folder.path().join("weighted.gguf");
    let (report, weighted) = converted(&demo(), &weighted, &with);
    let differ = |name: &str| data(&plain, name) != data(&weighted, name);
    assert!(differ("blk.0.ffn_up.weight"));
    assert!(!differ("blk.1.ffn_up.weight"));
    let told = |warning: &String| warning.contains("blk.1.ffn_up.weight");
    assert!(report.plan.warnings.iter().any(told));

    write_importance(&importance, 128);
    let message = refused(&demo(), folder.path(), &with);
    assert!(
        message.contains("expected 256 columns, found 128"),
        "{message}"
    );
    let no_matrix = ConvertOptions {
        importance: Some(folder.path().join("plain.gguf")),
        ..options("q4_k")
    };
    let message = refused(&demo(), folder.path(), &no_matrix);
    assert!(message.contains("imatrix"), "{message}");
}
