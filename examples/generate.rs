//! A minimal program that continues a text:
//! `cargo run --release --example generate -- MODEL.gguf "Once upon a time"`.

use std::io::Write as _;

use gpt2::{GenerationOptions, Model, ModelOptions, Session, SessionOptions, generate};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(file), Some(prompt)) = (arguments.next(), arguments.next()) else {
        return Err("usage: generate MODEL.gguf PROMPT".into());
    };
    let model = Model::open(file, &ModelOptions::default())?;
    let ids = model.tokenizer()?.encode(&prompt)?;
    let mut session = Session::new(model, SessionOptions::default())?;
    print!("{prompt}");
    let options = GenerationOptions::default();
    for step in generate(&mut session, &ids, &options)? {
        print!("{}", step?.text);
        // A broken pipe is no reason to fail.
        let _ = std::io::stdout().flush();
    }
    println!();
    Ok(())
}
