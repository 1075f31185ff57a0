//! Devices: what there is, what is asked for, what serves others.

use crate::run::{run, run_with};

#[test]
fn the_devices_are_listed() {
    let text = run("devices").ok();
    assert!(text.lines().any(|line| line.starts_with("cpu ")), "{text}");
    let rows = run("devices --json").json();
    let rows = rows["rows"].as_array().unwrap();
    let cpu = rows.iter().find(|row| row["name"] == "cpu").unwrap();
    assert_eq!(cpu["type"], "cpu");
    assert!(cpu["memory"]["total"].as_u64().unwrap() > 1 << 20, "{cpu}");
    assert!(!cpu["description"].as_str().unwrap().is_empty(), "{cpu}");
    for row in rows {
        let name = row["name"].as_str().unwrap();
        assert!(text.contains(name), "{name} is in {text}");
    }
}

/// Not what the machine has in all, nor what other processes use.
#[cfg(target_os = "linux")]
#[test]
fn free_memory_is_what_the_system_says() {
    let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap();
    let bytes = |field: &str| -> u64 {
        let line = meminfo
            .lines()
            .find(|line| line.starts_with(field))
            .unwrap();
        line.split_whitespace()
            .nth(1)
            .unwrap()
            .parse::<u64>()
            .unwrap()
            * 1024
    };
    let rows = run("devices --json").json()["rows"].clone();
    let memory = &rows.as_array().unwrap()[0]["memory"];
    let (free, total) = (
        memory["free"].as_u64().unwrap(),
        memory["total"].as_u64().unwrap(),
    );
    // A cgroup may allow less; others may take or free some meanwhile.
    let available = bytes("MemAvailable:");
    assert!(
        free <= available + available / 4 && free < total,
        "{memory}"
    );
    assert!(total <= bytes("MemTotal:"), "{memory}");
}

#[test]
fn an_unknown_device_is_refused_with_those_there_are() {
    for name in ["cuda9", "vulkan9", "gpu"] {
        let done = run_with(&["generate", "-p", "a", "-n", "1", "--device", name]);
        let line = done.error(2);
        assert!(line.contains(name) && line.contains("cpu"), "{line}");
    }
}

#[cfg(feature = "rpc")]
mod worker {
    use std::io::{BufRead, BufReader};
    use std::net::TcpListener;
    use std::process::{Child, Stdio};

    use crate::run::{command, run_with};

    fn free_port() -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap().port()
    }

    /// A worker, ended with the test.
    struct Worker(Child);

    impl Drop for Worker {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    #[test]
    fn a_worker_serves_generate() {
        let port = free_port();
        let text = port.to_string();
        let child = command(["worker", "--port", &text, "-t", "1"])
            .stderr(Stdio::piped())
            .spawn();
        let mut worker = Worker(child.unwrap());
        let mut lines = BufReader::new(worker.0.stderr.take().unwrap()).lines();
        let first = lines.next().unwrap().unwrap();
        assert!(
            first.contains(&format!("rpc://127.0.0.1:{port}")),
            "{first}"
        );
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        let device = format!("rpc://127.0.0.1:{port}");
        let generate = |more: &[&str]| {
            let mut arguments = vec!["generate", "--json", "-n", "24", "-p", "It is a truth"];
            arguments.extend(more);
            let lines = run_with(&arguments).ok();
            let last = lines.lines().last().unwrap();
            serde_json::from_str::<serde_json::Value>(last).unwrap()
        };
        let here = generate(&[]);
        for layers in [&[][..], &["--gpu-layers", "3"]] {
            let mut more = vec!["--device", &device[..]];
            more.extend(layers);
            let there = generate(&more);
            assert_eq!(there["sequences"][0]["ids"], here["sequences"][0]["ids"]);
            let devices = there["memory"]["devices"].as_array().unwrap();
            assert_eq!(devices.len(), 2, "{devices:?}");
            assert!(devices[0]["weights"].as_u64().unwrap() > 0, "{devices:?}");
            assert_eq!(devices[1]["device"], "cpu");
        }
        assert!(here["memory"].get("devices").is_none(), "{here}");
    }

    #[test]
    fn nobody_at_an_address_is_an_error_and_no_abort() {
        let address = format!("rpc://127.0.0.1:{}", free_port());
        for (device, status, words) in [
            (&address[..], 1, "gpt2 worker"),
            ("rpc://", 2, "HOST:PORT"),
            ("rpc://127.0.0.1", 2, "HOST:PORT"),
            ("rpc://127.0.0.1:99999", 2, "HOST:PORT"),
        ] {
            let done = run_with(&["generate", "-p", "a", "-n", "1", "--device", device]);
            let line = done.error(status);
            assert!(line.contains(words) && line.contains("rpc://"), "{line}");
        }
    }

    #[test]
    fn an_address_for_others_is_said_loudly() {
        // Not of this machine, so that nothing is really opened.
        let done = run_with(&["worker", "--host", "192.0.2.1", "--port", "50099"]);
        assert_eq!(done.status, Some(1));
        assert!(
            done.stderr.contains("WARNING: 192.0.2.1:50099"),
            "{}",
            done.stderr
        );
        assert!(done.stderr.contains("cannot listen"), "{}", done.stderr);
    }
}
