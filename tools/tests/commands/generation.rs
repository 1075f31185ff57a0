//! `generate`: the model's own settings, several prompts, what is written beside the text.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::reference::model;
use crate::run::{Done, command, run_with};

const PROMPTS: [&str; 3] = [
    "It is a truth universally acknowledged, that",
    "My dear",
    "Emma Woodhouse, handsome, clever, and rich, with a comfortable home and happy disposition,",
];

/// Runs `generate --json` with arguments, the last of which may be a text with spaces.
fn generate(arguments: &str, texts: &[&str]) -> Done {
    let mut all = vec!["generate", "--json"];
    all.extend(arguments.split_whitespace());
    for text in texts {
        all.extend(["-p", text]);
    }
    run_with(&all)
}

fn ids(document: &Value) -> &Value {
    &document["sequences"][0]["ids"]
}

/// The demo checkpoint converted with this `generation_config.json`.
struct Configured {
    _folder: TempDir,
    path: PathBuf,
}

impl Configured {
    fn new(config: &Value) -> Self {
        let folder = TempDir::new().unwrap();
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/../models/austen-gpt2");
        for entry in fs::read_dir(source).unwrap() {
            let entry = entry.unwrap();
            fs::copy(entry.path(), folder.path().join(entry.file_name())).unwrap();
        }
        let file = folder.path().join("generation_config.json");
        fs::write(file, config.to_string()).unwrap();
        let path = folder.path().join("model.gguf");
        let output = Command::new(env!("CARGO_BIN_EXE_gpt2-convert"))
            .arg(folder.path())
            .args(["--type", "q8_0", "-o"])
            .arg(&path)
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        Self {
            _folder: folder,
            path,
        }
    }

    fn generate(&self, arguments: &str) -> Done {
        let path = self.path.to_str().unwrap();
        generate(&format!("-m {path} {arguments}"), &PROMPTS[..1])
    }
}

#[test]
fn the_models_settings_stand_between_defaults_and_flags() {
    let model = Configured::new(&json!({
        "repetition_penalty": 1.3, "max_length": 25, "eos_token_id": [4095, 13],
        "pad_token_id": 4095,
        "warmth": 3, "transformers_version": "4.40.0"
    }));
    let done = model.generate("");
    assert!(done.stderr.contains("warning: ") && done.stderr.contains("warmth (3)"));
    let found = done.json();
    // 25 tokens, 11 of them the prompt's.
    let flags = "--repetition-penalty 1.3 -n 14 --eos-token-id 4095,13";
    let expected = generate(flags, &PROMPTS[..1]).json();
    assert_eq!(found["sequences"], expected["sequences"]);
    assert_ne!(ids(&generate("-n 14", &PROMPTS[..1]).json()), ids(&found));
    // A flag overrides the file, and new tokens override a length.
    let found = model
        .generate("--repetition-penalty 1 -n 20 --eos-token-id 4095")
        .json();
    assert_eq!(ids(&found), ids(&generate("-n 20", &PROMPTS[..1]).json()));
    let refused = model.generate("--max-length 11");
    assert!(refused.error(2).contains("max_length 11 leaves no room"));
}

#[test]
fn searches_of_the_models_settings_are_done() {
    let model = Configured::new(&json!({ "num_beams": 3, "max_new_tokens": 8, "max_length": 12 }));
    let expected = generate("--num-beams 3 -n 8", &PROMPTS[..1]).json();
    assert_eq!(
        model.generate("").json()["sequences"],
        expected["sequences"]
    );
    let greedy = generate("-n 8", &PROMPTS[..1]).json();
    assert_eq!(ids(&model.generate("--num-beams 1").json()), ids(&greedy));
}

#[test]
fn only_the_flag_turns_sampling_on() {
    let model = Configured::new(&json!({
        "do_sample": true, "temperature": 5.0, "top_k": 0, "num_return_sequences": 2
    }));
    let done = model.generate("-n 8");
    assert!(
        done.stderr.contains("only --do-sample turns on"),
        "{}",
        done.stderr
    );
    let greedy = generate("-n 8", &PROMPTS[..1]).json();
    assert_eq!(done.json()["sequences"], greedy["sequences"]);
    // The other settings of the model hold for it.
    let drawn = model.generate("-n 8 --do-sample --seed 3").json();
    let flags = "-n 8 --do-sample --seed 3 --temperature 5 --top-k 0 --num-return-sequences 2";
    let expected = generate(flags, &PROMPTS[..1]).json();
    assert_eq!(drawn["sequences"], expected["sequences"]);
    assert_eq!(drawn["sequences"].as_array().unwrap().len(), 2);
}

#[test]
fn rows_have_the_results_they_have_alone() {
    for (file, arguments) in [
        ("", "-n 40"),
        ("f32", "-n 40"),
        ("", "-n 24 --do-sample --seed 5 --num-return-sequences 2"),
        (
            "f32",
            "-n 24 --repetition-penalty 1.3 --no-repeat-ngram-size 3",
        ),
        ("f32", "-n 12 --num-beams 3"),
        ("f32", "-n 12 --penalty-alpha 0.6 --top-k 4"),
        ("", "-n 300 -c 30"),
    ] {
        let file = match file {
            "" => String::new(),
            _ => format!("-m {} ", model()),
        };
        let arguments = format!("{file}{arguments}");
        let together = generate(&arguments, &PROMPTS).json();
        let rows = together["rows"].as_array().unwrap();
        assert_eq!(rows.len(), PROMPTS.len());
        for (row, prompt) in rows.iter().zip(PROMPTS) {
            let alone = generate(&arguments, &[prompt]).json();
            assert_eq!(row["prompt_ids"], alone["prompt_ids"]);
            assert_eq!(
                row["sequences"], alone["sequences"],
                "{arguments}: {prompt}"
            );
        }
    }
}

#[test]
fn more_rows_than_fit_at_a_time() {
    let prompts = ["My dear"; 70];
    let together = generate("-n 2", &prompts).json();
    let rows = together["rows"].as_array().unwrap();
    let alone = generate("-n 2", &prompts[..1]).json();
    assert_eq!(rows.len(), 70);
    assert!(
        rows.iter()
            .all(|row| row["sequences"] == alone["sequences"])
    );
}

#[test]
fn padding_on_either_side_changes_nothing() {
    let own = "1024,363,258,1898";
    let alone = generate(&format!("-n 12 --ids {own}"), &[]).json();
    for (padded, mask) in [
        ("7,7,1024,363,258,1898", "0,0,1,1,1,1"),
        ("1024,363,258,1898,7", "1,1,1,1,0"),
    ] {
        let arguments = format!("-n 12 --ids {padded} --attention-mask {mask}");
        let found = generate(&arguments, &[]).json();
        assert_eq!(found["sequences"], alone["sequences"]);
    }
    // Without a padding token of the model every id counts.
    let found = generate(&format!("-n 12 --ids 4095,4095,{own}"), &[]).json();
    assert_ne!(found["sequences"], alone["sequences"]);
}

#[test]
fn scores_and_logits_go_to_a_file() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("out.safetensors");
    let file = path.to_str().unwrap();
    for method in [
        "",
        "--num-beams 3",
        "--penalty-alpha 0.6 --top-k 4",
        "--prompt-lookup-num-tokens 3",
    ] {
        let arguments = format!(
            "-n 6 --suppress-tokens 11 {method} --output-scores --output-logits -o {file} --force"
        );
        let document = generate(&arguments, &PROMPTS[..1]).json();
        let written = ids(&document).as_array().unwrap();
        let bytes = fs::read(&path).unwrap();
        let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let of = |name: &str| -> Vec<f32> {
            let tensor = tensors.tensor(name).unwrap();
            assert_eq!(tensor.shape(), [written.len(), 4096], "{method}");
            let values = tensor.data().chunks_exact(4);
            values
                .map(|b| f32::from_le_bytes(b.try_into().unwrap()))
                .collect()
        };
        let (scores, logits) = (of("scores"), of("logits"));
        assert!(logits.iter().all(|logit| logit.is_finite()));
        for (step, id) in written.iter().enumerate() {
            let row = &scores[step * 4096..][..4096];
            assert_eq!(row[11], f32::NEG_INFINITY, "{method}");
            let id = id.as_u64().unwrap() as usize;
            assert!(row[id].is_finite());
            if method.is_empty() {
                assert!(row.iter().all(|score| *score <= row[id]));
            }
        }
    }
    let refused = generate(&format!("-n 2 --output-scores -o {file}"), &PROMPTS[..1]);
    assert!(refused.error(1).contains("--force"));
    let several = format!("-n 2 --output-scores -o {file} --force");
    generate(&several, &PROMPTS[..2]).ok();
    let bytes = fs::read(&path).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(tensors.names().len(), 2);
    assert!(tensors.tensor("scores.1").is_ok());
}

#[test]
fn a_prompts_cache_is_kept_and_used() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("prompt.cache");
    let file = path.to_str().unwrap();
    let with = |arguments: &str| {
        generate(
            &format!("-n 8 --prompt-cache {file} {arguments}"),
            &PROMPTS[2..],
        )
    };
    let plain = generate("-n 8", &PROMPTS[2..]).json();
    let first = with("").json();
    let written = fs::read(&path).unwrap();
    let second = with("");
    assert!(
        second.stderr.contains("tokens restored"),
        "{}",
        second.stderr
    );
    let second = second.json();
    assert_eq!(first["sequences"], plain["sequences"]);
    assert_eq!(second["sequences"], plain["sequences"]);
    assert_eq!(
        fs::read(&path).unwrap(),
        written,
        "the same prompt, the same file"
    );
    with("--prompt-cache-ro --num-beams 2").ok();
    assert_eq!(fs::read(&path).unwrap(), written);
    with("--prompt-cache-all").ok();
    assert!(fs::read(&path).unwrap().len() > written.len());
    // Of another model, it is refused and left as it is.
    let before = fs::read(&path).unwrap();
    let refused = generate(
        &format!("-m {} --prompt-cache {file}", model()),
        &PROMPTS[2..],
    );
    assert!(
        refused.error(1).contains("is not of this model")
            && refused.error(1).contains("name another file")
            && refused.error(1).matches(file).count() > 1,
        "{}",
        refused.stderr
    );
    fs::write(&path, b"something else").unwrap();
    assert!(with("").error(1).contains("safetensors"));
    assert_eq!(fs::read(&path).unwrap(), b"something else");
    assert!(!before.is_empty());
    let refused = generate(&format!("--prompt-cache {file}"), &PROMPTS);
    assert!(refused.error(2).contains("one prompt"));
}

#[test]
fn an_assistant_changes_nothing_but_the_speed() {
    let plain = generate(&format!("-m {} -n 40", model()), &PROMPTS[..1]).json();
    let draft = Configured::new(&json!({}));
    let draft = draft.path.to_str().unwrap();
    let arguments = format!(
        "-m {} -n 40 --assistant-model {draft} --num-assistant-tokens 3",
        model()
    );
    let assisted = generate(&arguments, &PROMPTS[..1]).json();
    assert_eq!(assisted["sequences"], plain["sequences"]);
    let refused = generate(&format!("{arguments} --num-beams 2"), &PROMPTS[..1]);
    assert!(
        refused.error(2).contains("conflicting decoding methods"),
        "{}",
        refused.stderr
    );
}

#[test]
fn words_are_forbidden_and_favoured_as_text() {
    let text = |arguments: &[&str]| {
        let mut all = vec!["generate", "-n", "24", "-p", PROMPTS[0]];
        all.extend(arguments);
        run_with(&all).ok()
    };
    let free = text(&[]);
    let word = free
        .split_whitespace()
        .find(|word| word.len() > 3)
        .unwrap()
        .to_owned();
    let word = word.trim_matches(|c: char| !c.is_alphabetic());
    assert!(
        !text(&["--bad-words", word]).contains(&format!(" {word} ")),
        "{word}"
    );
    let favoured = text(&["--word-bias", "Emma=30"]);
    assert!(
        favoured.contains("Emma") && !free.contains("Emma"),
        "{favoured}"
    );
    assert_ne!(
        text(&["--guidance-scale", "2", "--negative-prompt", "My dear"]),
        free
    );
}

#[test]
fn a_text_goes_on_past_the_context_when_asked() {
    let ended = generate("-n 100 -c 32", &PROMPTS[..1]).json();
    assert_eq!(ended["sequences"][0]["finish_reason"], "context_full");
    let on = generate("-n 100 -c 32 --on-overflow keep=4", &PROMPTS[..1]).json();
    assert_eq!(on["sequences"][0]["finish_reason"], "length");
    assert_eq!(ids(&on).as_array().unwrap().len(), 100);
    // What can never be kept is refused before the work, however short the text.
    for arguments in [
        "-n 2 -c 64 --on-overflow keep=80",
        "-n 100 -c 32 --on-overflow keep=31",
        "-n 700 --ignore-eos --on-overflow keep=512",
    ] {
        let refused = generate(arguments, &PROMPTS[2..]);
        let line = refused.error(2);
        assert!(line.contains("on_overflow"), "{line}");
    }
}

#[test]
fn a_seed_draws_the_same_with_any_threads() {
    for method in ["", "--num-beams 3", "--prompt-lookup-num-tokens 3"] {
        let draw = |threads: u32| {
            let arguments =
                format!("-n 24 --do-sample --top-p 0.95 --seed 9 -t {threads} {method}");
            generate(&arguments, &PROMPTS[..1]).json()["sequences"].clone()
        };
        assert_eq!(draw(1), draw(2), "{method}");
    }
}

#[test]
fn searches_end_in_time() {
    for method in [
        "--num-beams 4",
        "--penalty-alpha 0.6 --top-k 4",
        "--dola-layers low",
        "",
    ] {
        let document = generate(&format!("-n 400 --max-time 0.05 {method}"), &PROMPTS[..1]).json();
        assert_eq!(
            document["sequences"][0]["finish_reason"], "time",
            "{method}"
        );
    }
    let document = generate("-n 400 -c 60 --num-beams 4", &PROMPTS[..1]).json();
    assert_eq!(document["sequences"][0]["finish_reason"], "context_full");
    assert!(!ids(&document).as_array().unwrap().is_empty());
}

#[cfg(unix)]
#[test]
fn an_interrupted_search_has_a_result() {
    for method in ["--num-beams 4", "--penalty-alpha 0.6 --top-k 4"] {
        let mut arguments = vec![
            "generate",
            "-m",
            model(),
            "-p",
            PROMPTS[0],
            "-n",
            "450",
            "--json",
        ];
        arguments.extend(
            ["--ignore-eos"]
                .into_iter()
                .chain(method.split_whitespace()),
        );
        let child = command(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // Long enough to have begun, far too short to end.
        std::thread::sleep(std::time::Duration::from_millis(400));
        let killed = Command::new("kill")
            .args(["-INT", &child.id().to_string()])
            .status();
        assert!(killed.unwrap().success());
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(130), "{method}");
        let document: Value = serde_json::from_slice(&output.stdout).unwrap();
        let sequences = document["sequences"].as_array().unwrap();
        if let Some(sequence) = sequences.first() {
            assert_eq!(sequence["finish_reason"], "stopped", "{method}");
        }
    }
}

#[test]
fn guidance_ends_with_the_context() {
    let document = generate("-n 100 -c 40 --guidance-scale 1.5", &PROMPTS[..1]).json();
    assert_eq!(document["sequences"][0]["finish_reason"], "context_full");
    assert!(!ids(&document).as_array().unwrap().is_empty());
}

#[test]
fn half_a_character_is_never_shown() {
    // So hot that bytes which are no characters come up; what is shown is read as UTF-8.
    let flags = "-n 60 --do-sample --top-k 0 --temperature 20 --seed 4";
    let whole = generate(flags, &PROMPTS[..1]).json();
    let mut arguments = vec!["generate", "-p", PROMPTS[0]];
    arguments.extend(flags.split_whitespace());
    let text = whole["sequences"][0]["text"].as_str().unwrap();
    assert!(
        text.contains('\u{FFFD}'),
        "the test needs broken characters: {text:?}"
    );
    assert_eq!(run_with(&arguments).ok(), format!("{text}\n"));
}
