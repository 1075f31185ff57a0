//! What the library and ggml report while they work: on stderr, from warnings on.

use tracing_subscriber::filter::LevelFilter;

use crate::stream::Notes;

/// The variable that asks for more or less: `off`, `error`, `warn`, `info`, `debug` or `trace`.
const VARIABLE: &str = "GPT2_LOG";

/// Begins to print. Another program's subscriber, set before, stays.
pub(crate) fn start() {
    let level = std::env::var(VARIABLE).ok();
    let level = level.and_then(|name| name.parse().ok());
    let started = tracing_subscriber::fmt()
        .with_max_level(level.unwrap_or(LevelFilter::WARN))
        .with_writer(|| Notes)
        .with_ansi(false)
        .without_time()
        .try_init();
    drop(started);
}
