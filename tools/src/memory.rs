//! How much memory this process has used, and how sizes are written on the command line.

use gpt2::session::{DeviceMemory, Session};
use serde_json::{Value, json};

/// The largest amount of memory this process has occupied so far, in bytes, mapped pages included;
/// `None` where the system does not say (it does on Linux).
pub(crate) fn peak_rss() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

/// A session's memory as the JSON results have it.
pub(crate) fn of_session(session: &Session) -> Value {
    let memory = session.memory();
    let mut value = json!({
        "weights": memory.weights,
        "kv": memory.kv,
        "compute": memory.compute,
        "peak_rss": peak_rss(),
    });
    let devices = session.device_memory();
    if devices.len() > 1 {
        let row = |on: DeviceMemory| {
            json!({
                "device": on.device,
                "weights": on.memory.weights,
                "kv": on.memory.kv,
                "compute": on.memory.compute,
            })
        };
        value["devices"] = devices.into_iter().map(row).collect();
    }
    value
}

/// Reads a size such as `800M`, `1.5G`, `2GiB` or a number of bytes. A letter alone counts in
/// powers of 1024, as memory limits usually do.
pub(crate) fn parse_size(text: &str) -> Result<u64, String> {
    const POWERS: [(char, u32); 4] = [('K', 1), ('M', 2), ('G', 3), ('T', 4)];
    let wrong = || format!("expected a size such as 800M or 1.5G, found {text:?}");
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = text[digits.len()..].to_ascii_uppercase();
    let base: f64 = if unit.len() == 2 && unit.ends_with('B') {
        1000.0
    } else {
        1024.0
    };
    let power = match unit.trim_end_matches('B').trim_end_matches('I') {
        "" if unit.len() <= 1 => 0,
        letter => {
            POWERS
                .iter()
                .find(|(known, _)| letter == known.to_string())
                .ok_or_else(wrong)?
                .1
        }
    };
    let value: f64 = digits.trim().parse().map_err(|_| wrong())?;
    let bytes = value * base.powi(power as i32);
    if bytes.is_finite() && (1.0..u64::MAX as f64).contains(&bytes) {
        Ok(bytes as u64)
    } else {
        Err(wrong())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (text, bytes) in [
            ("4096", 4096),
            ("1K", 1024),
            ("800M", 800 << 20),
            ("1.5G", 3 << 29),
            ("2GiB", 2 << 30),
            ("2gb", 2_000_000_000),
            ("12B", 12),
        ] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        for text in ["", "M", "12X", "-1G", "0", "nan", "1e400", "1IB", "1 G B"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_uses_memory() {
        let peak = peak_rss().unwrap();
        assert!((1 << 20..1 << 40).contains(&peak), "{peak}");
    }
}
