//! `forward`, `perplexity`, `bench`.

use serde_json::Value;

use crate::run::{run, run_on, run_with};

#[test]
fn forward_writes_the_logits_of_a_batch() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("logits.safetensors");
    let path = path.to_str().unwrap();
    let arguments = [
        "forward",
        "--ids",
        "1024,363,258",
        "--ids",
        "7",
        "--output",
        path,
        "--json",
    ];
    let document = run_with(&arguments).json();
    assert_eq!(
        document["shapes"]["logits"],
        serde_json::json!([2, 3, 4096])
    );
    let bytes = std::fs::read(path).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let logits = tensors.tensor("logits").unwrap();
    assert_eq!(
        (logits.dtype(), logits.shape()),
        (safetensors::Dtype::F32, [2, 3, 4096].as_slice())
    );
    let values: Vec<f32> = logits
        .data()
        .chunks_exact(4)
        .map(|b| f32::from_le_bytes(b.try_into().unwrap()))
        .collect();
    // The best token of each row is the one the report names.
    for (row, last) in [(0, 2), (1, 0)] {
        let start = (row * 3 + last) * 4096;
        let last = &values[start..start + 4096];
        let best = &document["rows"][row]["top"][0];
        let logit = last[best["id"].as_u64().unwrap() as usize];
        assert!((f64::from(logit) - best["logit"].as_f64().unwrap()).abs() < 1e-6);
        assert!(last.iter().all(|&other| other <= logit));
    }
    // What follows a shorter row is computed: padding that sees the row.
    assert!(
        values[4 * 4096..]
            .iter()
            .all(|value| value.is_finite() && *value != 0.0)
    );

    let again = run_with(&arguments);
    assert!(again.error(1).contains("--force"), "{}", again.stderr);
    let forced: Vec<&str> = arguments.iter().copied().chain(["--force"]).collect();
    assert_eq!(run_with(&forced).json(), document);
}

#[test]
fn rows_do_not_disturb_each_other() {
    let together = run("forward --ids 5,6,7 --ids 1024,363 --json").json();
    let alone = run("forward --ids 1024,363 --json").json();
    assert_eq!(together["rows"][1], alone["rows"][0]);
    assert_eq!(alone["rows"][0]["top"].as_array().unwrap().len(), 20);
}

/// A text of some length that the model knows well enough.
const TEXT: &str = "She was the youngest of the two daughters of a most affectionate, indulgent \
    father; and had, in consequence of her sister's marriage, been mistress of his house from a \
    very early period.";

#[test]
fn perplexity_counts_whole_windows() {
    let document = run_on(&["perplexity", "--window", "16", "--json"], TEXT.as_bytes()).json();
    let ids = run_with(&["tokenize", TEXT, "--json"]).json()["ids"]
        .as_array()
        .unwrap()
        .len();
    assert_eq!(document["tokens"], (ids / 16 * 15) as u64);
    let (sum, tokens) = (
        document["nll_sum"].as_f64().unwrap(),
        document["tokens"].as_f64().unwrap(),
    );
    let perplexity = document["perplexity"].as_f64().unwrap();
    assert!((perplexity - (sum / tokens).exp()).abs() < 1e-9);
    assert!((5.0..500.0).contains(&perplexity), "{perplexity}");
    assert_eq!(document["kld_mean"], Value::Null);

    // A text that is shorter than one window is one.
    let short = run_on(
        &["perplexity", "--window", "400", "--json"],
        TEXT.as_bytes(),
    );
    assert_eq!(short.json()["tokens"], (ids - 1) as u64);
    let long = run_on(&["perplexity", "--window", "1000"], TEXT.as_bytes());
    assert!(long.error(2).contains("512"), "{}", long.stderr);
}

#[test]
fn every_window_and_stride_is_scored_or_refused() {
    for window in ["2", "3", "5", "15", "16", "17", "512"] {
        let document = run_with(&["perplexity", "--window", window, "-p", TEXT, "--json"]).json();
        assert!(document["perplexity"].as_f64().unwrap() > 1.0, "{window}");
    }
    for stride in ["1", "4", "5"] {
        let arguments = ["--window", "5", "--stride", stride, "-p", TEXT, "--json"];
        let arguments: Vec<&str> = ["perplexity"].into_iter().chain(arguments).collect();
        assert!(run_with(&arguments).json()["nll_sum"].as_f64().unwrap() > 0.0);
    }
    for wrong in [
        &["--window", "0"][..],
        &["--window", "1"],
        &["--window", "513"],
        &["--window", "18446744073709551615"],
        &["--stride", "0"],
        &["--stride", "513"],
        &["--window", "5", "--stride", "6"],
    ] {
        let arguments = ["perplexity", "-p", TEXT].iter().chain(wrong);
        let done = run_with(&arguments.copied().collect::<Vec<_>>());
        let flag = wrong[wrong.len() - 2];
        assert!(done.error(2).contains(flag), "{}", done.stderr);
    }
    for nothing in ["", "a"] {
        let done = run_with(&["perplexity", "-p", nothing]);
        assert!(
            done.error(2).contains("at least 2 tokens"),
            "{}",
            done.stderr
        );
    }
}

#[test]
fn several_texts_have_one_perplexity() {
    let figures = |texts: &[&str]| {
        let texts = texts.iter().flat_map(|text| ["-p", text]);
        let arguments = ["perplexity", "--json", "--stride", "8", "--window", "16"];
        run_with(&arguments.into_iter().chain(texts).collect::<Vec<_>>()).json()
    };
    let (first, second) = (figures(&[TEXT]), figures(&["She was happy.", "a"]));
    let both = figures(&[TEXT, "a", "She was happy."]);
    let sum = |document: &Value| document["nll_sum"].as_f64().unwrap();
    assert!((sum(&both) - sum(&first) - sum(&second)).abs() < 1e-6);
    let tokens = |document: &Value| document["tokens"].as_u64().unwrap();
    assert_eq!(tokens(&both), tokens(&first) + tokens(&second));
}

#[test]
fn a_model_does_not_differ_from_itself() {
    let model = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../models/austen-gpt2-q8_0.gguf"
    );
    let arguments = [
        "perplexity",
        "--window",
        "16",
        "--json",
        "-m",
        model,
        "--reference",
        model,
    ];
    let document = run_on(&arguments, TEXT.as_bytes()).json();
    assert!(document["kld_mean"].as_f64().unwrap() < 1e-9);
    assert!(document["kld_p99"].as_f64().unwrap() < 1e-9);
    assert_eq!(document["top1_agreement"], 1.0);
}

#[test]
fn bench_has_a_row_for_each_test() {
    let document = run("bench -p 8,4 -n 2 -r 2 --json").json();
    let rows = document["rows"].as_array().unwrap();
    let tests: Vec<&str> = rows
        .iter()
        .map(|row| row["test"].as_str().unwrap())
        .collect();
    assert_eq!(tests, ["pp8", "pp4", "tg2"]);
    assert_eq!(
        (&rows[0]["n_prompt"], &rows[0]["n_gen"]),
        (&8.into(), &0.into())
    );
    assert_eq!(
        (&rows[2]["n_prompt"], &rows[2]["n_gen"]),
        (&0.into(), &2.into())
    );
    for row in rows {
        assert!(row["tokens_per_s"]["mean"].as_f64().unwrap() > 0.0);
        assert!(row["tokens_per_s"]["std"].as_f64().unwrap() >= 0.0);
        assert!(row["memory"]["kv"].as_u64().unwrap() > 0);
    }
    assert!(run("bench -p 0 -n 1 -r 1").ok().contains("| tg1 |"));
    assert!(run("bench -p 513 -n 0").error(2).contains("512 positions"));
    // Before the first test.
    assert!(
        run("bench -p 8,64 -n 0 -c 32")
            .error(2)
            .contains("32 positions")
    );
    assert_eq!(run("bench -p 0 -n 0").status, Some(2));
}

#[test]
fn attention_is_compared_in_rows_and_drawn() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("attention.svg");
    let path = path.to_str().unwrap();
    let mut arguments = vec!["bench", "--attention", "-p", "128", "--plot", path];
    arguments.extend(["-r", "1", "--json"]);
    let document = run_with(&arguments).json();
    let rows = document["rows"].as_array().unwrap();
    // Four batches, the lengths 64 and 128; two caches, two ways.
    assert_eq!(rows.len(), (4 + 2) * 2 * 2);
    for (row, expected) in rows.iter().zip([
        ("f16", false),
        ("f16", true),
        ("q8_0", false),
        ("q8_0", true),
    ]) {
        assert_eq!(row["test"], "batch");
        assert_eq!((&row["batch"], &row["n_prompt"]), (&1.into(), &128.into()));
        assert_eq!(row["cache_type"], expected.0);
        assert_eq!(row["flash_attention"], expected.1);
        assert!(row["ms"].as_f64().unwrap() > 0.0);
        assert!(row["tokens_per_s"]["mean"].as_f64().unwrap() > 0.0);
    }
    let lengths: Vec<u64> = rows[16..]
        .iter()
        .step_by(4)
        .map(|row| row["n_prompt"].as_u64().unwrap())
        .collect();
    assert_eq!(lengths, [64, 128]);
    let drawn = std::fs::read_to_string(path).unwrap();
    assert!(drawn.contains("flash, q8_0 cache") && drawn.ends_with("</svg>\n"));
    assert!(run_with(&arguments).error(1).contains("--force"));
    assert!(
        run("bench --attention -p 513")
            .error(1)
            .contains("512 positions")
    );
    assert_eq!(run("bench --plot x.svg").status, Some(2));
    assert_eq!(run("bench --attention -p 5,6").status, Some(2));
}
