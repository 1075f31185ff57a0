//! Devices beside the CPU: the same texts whether they compute all, half or none of a model.
//!
//! A GPU is tested where there is one; `GPT2_TEST_DEVICE` names it (`.ci/run gpu` does). The RPC
//! device is always there: a worker in this process.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::common::{austen, cores, ids, project, reference};
use gpt2::session::{CacheType, FlashAttention, Model, ModelOptions, Session, SessionOptions};
use gpt2::system;

/// The demo model's layers.
const LAYERS: usize = 6;
/// Tokens that a greedy text goes on for.
const STEPS: usize = 24;

/// A model whose matrices are as they are in the file, as other devices have them.
fn open(file: &Path, devices: &[String], gpu_layers: Option<usize>) -> Arc<Model> {
    let options = ModelOptions {
        repack: false,
        devices: devices.to_vec(),
        gpu_layers,
        ..ModelOptions::default()
    };
    Model::open(file, &options).unwrap()
}

fn session(model: &Arc<Model>, options: SessionOptions) -> Session {
    let options = SessionOptions {
        threads: Some(1),
        ..options
    };
    Session::new(Arc::clone(model), options).unwrap()
}

fn likeliest(logits: &[f32]) -> u32 {
    let best = (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b]));
    best.unwrap() as u32
}

/// The greedy continuation, and the logits of each step.
fn greedy(session: &mut Session, prompt: &[u32]) -> (Vec<u32>, Vec<Vec<f32>>) {
    session.clear();
    let mut logits = vec![session.prefill(prompt).unwrap().to_vec()];
    let mut text = vec![likeliest(&logits[0])];
    while text.len() < STEPS {
        let next = session.decode(text[text.len() - 1]).unwrap().to_vec();
        text.push(likeliest(&next));
        logits.push(next);
    }
    (text, logits)
}

/// Checks a device's text against the CPU's. They may part only where the CPU itself finds both
/// tokens equally likely, within the device's rounding. Returns whether they never did.
fn check_text(
    expected: &(Vec<u32>, Vec<Vec<f32>>),
    found: &[u32],
    case: &str,
    device: &str,
) -> bool {
    let (text, logits) = expected;
    let Some(step) = (0..STEPS).find(|&step| text[step] != found[step]) else {
        return true;
    };
    let logits = &logits[step];
    let largest = logits
        .iter()
        .fold(0.0f32, |largest, x| largest.max(x.abs()));
    let margin = (logits[text[step] as usize] - logits[found[step] as usize]) / largest;
    println!("{case}: parted at step {step}, where the two were {margin:e} apart");
    assert!(
        margin < rounding(device),
        "{case}: step {step} of {text:?} and {found:?}, {margin:e} apart"
    );
    false
}

/// The reference's prompts, and some texts.
fn prompts() -> Vec<Vec<u32>> {
    const TEXTS: [&str; 6] = [
        "It is a truth universally acknowledged, that",
        "She was not at all sorry to",
        "Mr. Darcy",
        "The evening passed off",
        "\"My dear Emma,\" said he,",
        "There was no",
    ];
    let reference = reference();
    let prompts = reference["prompts"].as_array().unwrap();
    let mut prompts: Vec<_> = prompts.iter().map(|prompt| ids(&prompt["ids"])).collect();
    let model = crate::common::austen_f32();
    let tokenizer = model.tokenizer().unwrap();
    prompts.extend(TEXTS.iter().map(|text| tokenizer.encode(text).unwrap()));
    prompts
}

/// The largest difference, as a part of the largest number expected.
fn distance(expected: &[f32], found: &[f32]) -> f32 {
    assert_eq!(expected.len(), found.len());
    let pairs = expected.iter().zip(found);
    let most = pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    most / expected
        .iter()
        .fold(0.0f32, |largest, x| largest.max(x.abs()))
}

/// How far apart the CPU and a device may be. The CPU quantizes activations where weights are
/// quantized, and other layouts of the weights add up in another order: a product is right to 1
/// part in 256. GPUs multiply f16, of 11 bits, layer after layer, in an order of their own.
fn rounding(device: &str) -> f32 {
    if device.starts_with("rpc:") {
        1.0 / 256.0
    } else {
        1.0 / 128.0
    }
}

/// Every type, with all of the layers on the device, half of them, and the head alone.
fn computes_the_same_texts(device: &str) {
    let devices = [device.to_owned()];
    let prompts = prompts();
    assert!(prompts.len() > 7, "few prompts decide nothing");
    for name in ["f32", "f16", "q8_0", "q4_0"] {
        let file = austen(name);
        let here = open(&file, &[], None);
        let full = (!device.starts_with("rpc:")).then(|| open(&in_full(&file), &[], None));
        let attentions: &[FlashAttention] = if name == "f16" {
            &[FlashAttention::Auto, FlashAttention::Off]
        } else {
            &[FlashAttention::Auto]
        };
        for &flash_attention in attentions {
            let options = SessionOptions {
                flash_attention,
                ..SessionOptions::default()
            };
            let mut cpu = session(&here, options);
            let expected: Vec<_> = prompts.iter().map(|ids| greedy(&mut cpu, ids)).collect();
            let (reference, own) = first_logits(full.as_ref(), options, &prompts, &expected);
            for gpu_layers in [None, Some(LAYERS / 2), Some(1)] {
                let case =
                    format!("{name}, {gpu_layers:?} layers on {device}, {flash_attention:?}");
                let mut there = session(&open(&file, &devices, gpu_layers), options);
                let (mut worst, mut equal) = (0.0f32, 0);
                for ((prompt, expected), reference) in prompts.iter().zip(&expected).zip(&reference)
                {
                    let (found, logits) = greedy(&mut there, prompt);
                    worst = worst.max(distance(reference, &logits[0]));
                    equal += usize::from(check_text(expected, &found, &case, device));
                }
                println!("{case}: {equal} of {} texts equal", prompts.len());
                assert!(
                    equal * 3 >= prompts.len() * 2,
                    "{case}: {equal} of {} texts equal",
                    prompts.len()
                );
                println!("{case}: logits within {worst:e}, the CPU's within {own:e}");
                assert!(
                    worst < allowed(device, gpu_layers, own),
                    "{case}: logits within {worst:e}, the CPU's within {own:e}"
                );
                check_memory(&there, gpu_layers);
            }
        }
    }
}

/// The first logits of each prompt that a device's are compared with, and how far the CPU's own are
/// from them. A worker computes as the CPU does. A GPU does not round activations beside quantized
/// weights, which the CPU does in every layer: both are compared with the same numbers computed in
/// f32, by the model `full`.
fn first_logits(
    full: Option<&Arc<Model>>,
    options: SessionOptions,
    prompts: &[Vec<u32>],
    expected: &[(Vec<u32>, Vec<Vec<f32>>)],
) -> (Vec<Vec<f32>>, f32) {
    let Some(full) = full else {
        let first = expected.iter().map(|(_, logits)| logits[0].clone());
        return (first.collect(), 0.0);
    };
    let mut full = session(full, options);
    let mut reference = Vec::new();
    let mut own = 0.0f32;
    for (prompt, (_, logits)) in prompts.iter().zip(expected) {
        full.clear();
        reference.push(full.prefill(prompt).unwrap().to_vec());
        own = own.max(distance(&reference[reference.len() - 1], &logits[0]));
    }
    (reference, own)
}

/// How far from the reference a device may be. A GPU multiplies halves and rounds nothing else;
/// with layers of the CPU beside it, what the CPU's own logits are away is added, which never makes
/// more than [`rounding`].
fn allowed(device: &str, gpu_layers: Option<usize>, own: f32) -> f32 {
    const HALVES: f32 = 1.0 / 512.0;
    match gpu_layers {
        _ if device.starts_with("rpc:") => rounding(device),
        None => HALVES,
        Some(_) => (own + HALVES).min(rounding(device)),
    }
}

/// Weights and cache are where their layers are.
fn check_memory(session: &Session, gpu_layers: Option<usize>) {
    let devices = session.device_memory();
    let [there, cpu] = &devices[..] else {
        panic!("expected a device and the CPU, found {devices:?}");
    };
    assert_eq!(cpu.device, "cpu");
    let on_gpu = gpu_layers.map_or(LAYERS, |count| count - 1);
    let share = there.memory.kv as f64 / (there.memory.kv + cpu.memory.kv) as f64;
    let expected = on_gpu as f64 / LAYERS as f64;
    assert!((share - expected).abs() < 0.01, "{devices:?}");
    assert!(there.memory.weights > 0 && cpu.memory.weights > 0);
    let whole = session.memory();
    assert_eq!(whole.kv, there.memory.kv + cpu.memory.kv);
    assert_eq!(whole.weights, there.memory.weights + cpu.memory.weights);
}

/// The model in `file` with every matrix as f32: the same numbers, and nothing rounded on the way.
fn in_full(file: &Path) -> PathBuf {
    let output = file.with_extension("full.gguf");
    let options =
        gpt2::convert::ConvertOptions::new(gpt2::convert::FileType::from_name("f32").unwrap());
    gpt2::convert::convert(file, &output, &options, &()).unwrap();
    output
}

/// Every greedy token is that of the CPU computing with the same numbers in f32, where the device
/// does not round to halves (`GGML_VK_DISABLE_F16` keeps Vulkan from it).
fn writes_the_same_tokens(device: &str) {
    let devices = [device.to_owned()];
    let options = SessionOptions {
        cache_type: Some(CacheType::F32),
        ..SessionOptions::default()
    };
    let prompts = prompts();
    for (name, gpu_layers) in [("f32", None), ("f32", Some(LAYERS / 2)), ("f16", None)] {
        let file = austen(name);
        let mut cpu = session(&open(&in_full(&file), &[], None), options);
        let mut there = session(&open(&file, &devices, gpu_layers), options);
        for prompt in &prompts[..6] {
            let (expected, logits) = greedy(&mut cpu, prompt);
            let (text, found) = greedy(&mut there, prompt);
            let worst = distance(&logits[0], &found[0]);
            println!("{name}, {gpu_layers:?} layers on {device}: logits within {worst:e}");
            assert_eq!(text, expected, "{name}, {gpu_layers:?} layers");
        }
    }
}

#[test]
fn a_gpu_without_halves_writes_the_same_tokens() {
    let _cores = cores();
    match device_under_test() {
        Some(_) if std::env::var_os("GGML_VK_DISABLE_F16").is_none() => {
            println!("not without halves: GGML_VK_DISABLE_F16 is not set");
        }
        Some(device) => writes_the_same_tokens(&device),
        None => println!("skipped: GPT2_TEST_DEVICE names no device (gpt2 devices lists them)"),
    }
}

/// What a session can be asked for beyond a text: every cache type, hidden states of many tokens, a
/// cache that was cut and saved, logits of rows.
fn keeps_its_promises(device: &str) {
    let folder = tempfile::tempdir().unwrap();
    let file = austen("f16");
    let devices = [device.to_owned()];
    let prompt = &prompts()[0];
    for cache_type in CacheType::all() {
        let options = SessionOptions {
            cache_type: Some(cache_type),
            ..SessionOptions::default()
        };
        let mut cpu = session(&open(&file, &[], None), options);
        for gpu_layers in [None, Some(LAYERS / 2)] {
            let model = open(&file, &devices, gpu_layers);
            let mut there = session(&model, options);
            let (_, expected) = greedy(&mut cpu, prompt);
            let (text, found) = greedy(&mut there, prompt);
            let worst = distance(&expected[0], &found[0]);
            println!(
                "{device}, {} cache: logits within {worst:e}",
                cache_type.name()
            );
            // What rounds to the next step of a quantized cache is off by that step.
            let bound = match cache_type {
                CacheType::F32 | CacheType::F16 => rounding(device),
                CacheType::Q8_0 => 4.0 * rounding(device),
                CacheType::Q4_0 => 8.0 * rounding(device),
            };
            assert!(
                worst < bound,
                "{} cache: logits within {worst:e}",
                cache_type.name()
            );

            let saved = folder.path().join("saved.safetensors");
            there.save(0, &saved, true).unwrap();
            let next = there.decode(text[STEPS - 1]).unwrap().to_vec();
            there.truncate(0, prompt.len()).unwrap();
            assert_eq!(there.length(0), prompt.len());
            there.restore(0, &saved).unwrap();
            assert_eq!(there.decode(text[STEPS - 1]).unwrap(), next);
        }
    }
    let model = open(&file, &devices, None);
    let mut there = session(&model, SessionOptions::default());
    let mut cpu = session(&open(&file, &[], None), SessionOptions::default());
    let rows = there.text_states(prompt).unwrap().to_vec();
    let expected = cpu.text_states(prompt).unwrap().to_vec();
    let worst = distance(&expected, &rows);
    println!("{device}: hidden states within {worst:e}");
    assert!(worst < rounding(device), "hidden states within {worst:e}");
    let projected = there.project(&expected).unwrap();
    let worst = distance(&cpu.project(&expected).unwrap(), &projected);
    println!("{device}: the head's logits within {worst:e}");
    assert!(
        worst < rounding(device),
        "the head's logits within {worst:e}"
    );
}

/// Every activation of a configuration: by the device's own operations, or by the CPU's.
fn computes_every_activation(device: &str) {
    let folder = tempfile::tempdir().unwrap();
    let devices = [device.to_owned()];
    let prompt = &prompts()[0];
    for activation in [
        "gelu",
        "gelu_10",
        "quick_gelu",
        "relu",
        "relu2",
        "relu6",
        "leaky_relu",
        "silu",
        "tanh",
        "sigmoid",
        "linear",
        "hardswish",
        "mish",
        "laplace",
    ] {
        let file = with_activation(activation, folder.path());
        let mut cpu = session(&open(&file, &[], None), SessionOptions::default());
        let mut there = session(&open(&file, &devices, None), SessionOptions::default());
        let expected = cpu.prefill(prompt).unwrap();
        let worst = distance(expected, there.prefill(prompt).unwrap());
        println!("{device}, {activation}: logits within {worst:e}");
        assert!(
            worst < rounding(device),
            "{activation}: logits within {worst:e}"
        );
    }
}

/// The demo model in f32, claiming another activation.
fn with_activation(activation: &str, folder: &Path) -> PathBuf {
    let source = folder.join(activation);
    std::fs::create_dir(&source).unwrap();
    for entry in std::fs::read_dir(project("models/austen-gpt2")).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, source.join(path.file_name().unwrap())).unwrap();
    }
    let config = source.join("config.json");
    let text = std::fs::read_to_string(&config).unwrap();
    let changed = text.replace("\"gelu_new\"", &format!("{activation:?}"));
    assert_ne!(text, changed, "the configuration names the activation");
    std::fs::write(&config, changed).unwrap();
    let output = folder.join(format!("{activation}.gguf"));
    let options =
        gpt2::convert::ConvertOptions::new(gpt2::convert::FileType::from_name("f32").unwrap());
    gpt2::convert::convert(&source, &output, &options, &()).unwrap();
    output
}

#[test]
fn an_unknown_device_is_refused_with_those_there_are() {
    let file = austen("q8_0");
    for name in ["cuda7", "", "cpu ", "gpu"] {
        let options = ModelOptions {
            devices: vec![name.to_owned()],
            ..ModelOptions::default()
        };
        let message = Model::open(&file, &options).unwrap_err().to_string();
        assert!(
            message.contains(&format!("device {name}: expected one of")) && message.contains("cpu"),
            "{message}"
        );
    }
}

#[test]
fn the_cpu_by_name_is_the_default() {
    let _cores = cores();
    let file = austen("q8_0");
    let prompt = &prompts()[0];
    let mut plain = session(&open(&file, &[], None), SessionOptions::default());
    let named = open(&file, &["CPU".to_owned(), "cpu".to_owned()], None);
    let mut named = session(&named, SessionOptions::default());
    assert_eq!(greedy(&mut plain, prompt), greedy(&mut named, prompt));
    let devices = named.device_memory();
    assert_eq!(devices.len(), 1);
    assert_eq!(
        (&devices[0].device[..], devices[0].memory),
        ("cpu", named.memory())
    );
    assert!(named.memory().compute > 0);
}

/// The device that `GPT2_TEST_DEVICE` names; prints why there is nothing to do without it.
fn device_under_test() -> Option<String> {
    let name = std::env::var("GPT2_TEST_DEVICE").ok()?;
    let there = system::devices();
    let names: Vec<&str> = there.iter().map(|device| &device.argument[..]).collect();
    assert!(
        names.contains(&&name[..]),
        "GPT2_TEST_DEVICE={name}: expected one of {names:?}"
    );
    Some(name)
}

#[test]
fn a_gpu_computes_the_same_texts() {
    let _cores = cores();
    match device_under_test() {
        Some(device) => computes_the_same_texts(&device),
        None => println!("skipped: GPT2_TEST_DEVICE names no device (gpt2 devices lists them)"),
    }
}

#[test]
fn a_gpu_keeps_its_promises() {
    let _cores = cores();
    match device_under_test() {
        Some(device) => keeps_its_promises(&device),
        None => println!("skipped: GPT2_TEST_DEVICE names no device (gpt2 devices lists them)"),
    }
}

#[test]
fn a_gpu_computes_every_activation() {
    let _cores = cores();
    match device_under_test() {
        Some(device) => computes_every_activation(&device),
        None => println!("skipped: GPT2_TEST_DEVICE names no device (gpt2 devices lists them)"),
    }
}

#[cfg(feature = "rpc")]
mod rpc {
    use std::net::{SocketAddr, TcpListener, TcpStream};
    use std::sync::OnceLock;

    use super::*;

    /// A worker in this process that serves the CPU; one for all tests.
    fn worker() -> String {
        static ADDRESS: OnceLock<SocketAddr> = OnceLock::new();
        let address = ADDRESS.get_or_init(|| {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap();
            drop(listener);
            std::thread::spawn(move || gpt2::worker::serve(address, "cpu", 1).unwrap_err());
            while TcpStream::connect(address).is_err() {
                std::thread::sleep(std::time::Duration::from_millis(10));
            }
            address
        });
        format!("rpc://{address}")
    }

    #[test]
    fn a_worker_computes_the_same_texts() {
        let _cores = cores();
        computes_the_same_texts(&worker());
    }

    #[test]
    fn a_worker_keeps_its_promises() {
        let _cores = cores();
        keeps_its_promises(&worker());
    }

    #[test]
    fn a_worker_computes_every_activation() {
        let _cores = cores();
        computes_every_activation(&worker());
    }

    #[test]
    fn a_worker_that_cannot_serve_says_why() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        let message = gpt2::worker::serve(address, "cpu", 1).unwrap_err();
        assert!(message.to_string().contains("cannot listen"), "{message}");
        let message = gpt2::worker::serve(address, "cuda9", 1).unwrap_err();
        assert!(message.to_string().contains("expected one of"), "{message}");
    }
}
