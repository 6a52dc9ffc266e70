//! Reads the source and holds the rules of its structure: who may import whom, where `unsafe` may
//! stand, how long a file may be, and that each file says what it answers for.

#![expect(clippy::unwrap_used, reason = "a test that cannot read the source has failed")]

use std::fs;
use std::path::{Path, PathBuf};

/// Layer, and the modules of the crate it may use beside itself.
const LAYERS: &[(&str, &[&str])] = &[
    ("buf", &[]),
    ("proto", &[]),
    ("policy", &["proto"]),
    ("metrics", &[]),
    ("tls", &[]),
    ("io", &["buf"]),
    ("legible", &[]),
    ("conn_info", &["io"]),
    ("tap", &["proto", "conn_info", "legible"]),
    ("conn", &["proto", "buf", "policy", "metrics", "tap"]),
    ("close_record", &["conn", "conn_info", "proto"]),
    ("sync", &["io"]),
    ("pubsub", &["proto", "buf", "policy", "conn", "conn_info", "close_record", "sync", "tap"]),
    ("decision", &["proto", "io"]),
    ("handler", &["proto", "conn", "conn_info", "io", "decision", "pubsub"]),
    ("dialer", &["proto", "conn", "conn_info", "handler", "tls"]),
    (
        "worker",
        &[
            "proto",
            "conn",
            "buf",
            "policy",
            "metrics",
            "io",
            "decision",
            "handler",
            "dialer",
            "tls",
            "pubsub",
            "conn_info",
            "close_record",
            "legible",
            "tap",
        ],
    ),
];

/// Where `unsafe` may stand. The bare io_uring server of the benchmark has no library to hide in.
const UNSAFE: &[&str] =
    &["src/io/", "src/buf/", "src/proto/kernels.rs", "benches/floor/bare_uring.rs"];

const LINES_MAX: usize = 600;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn rust_files(folder: &str) -> Vec<(String, String)> {
    let mut folders = vec![root().join(folder)];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for entry in entries {
            let path: PathBuf = entry.unwrap().path();
            if path.is_dir() && !path.ends_with("target") {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned();
                files.push((name, fs::read_to_string(&path).unwrap()));
            }
        }
    }
    assert!(!files.is_empty(), "{folder} holds Rust files");
    files.sort();
    files
}

fn all_files() -> Vec<(String, String)> {
    ["src", "tests", "benches", "examples", "loadgen", "fuzz"]
        .into_iter()
        .flat_map(rust_files)
        .collect()
}

/// The lines of a file without its tests and comments.
fn code_lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines()
        .enumerate()
        .take_while(|(_, line)| !line.starts_with("#[cfg(test)]"))
        .filter(|(_, line)| !line.trim_start().starts_with("//"))
        .map(|(number, line)| (number + 1, line))
}

fn is_test(name: &str) -> bool {
    name.contains("/tests/")
        || name.ends_with("/tests.rs")
        || name.contains("/sim/")
        || name.contains("/hostile_heads/")
        || name.starts_with("src/pubsub/model")
}

#[test]
fn layers_import_only_what_they_may() {
    let mut wrong = Vec::new();
    for (name, text) in rust_files("src") {
        let Some(layer) = name.strip_prefix("src/").and_then(|rest| rest.split(['/', '.']).next())
        else {
            continue;
        };
        let Some((_, allowed)) = LAYERS.iter().find(|(known, _)| *known == layer) else { continue };
        if is_test(&name) {
            continue;
        }
        for (number, line) in code_lines(&text) {
            for used in line.split("crate::").skip(1) {
                let module = used.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap();
                let known = LAYERS.iter().any(|(known, _)| *known == module);
                if known && module != layer && !allowed.contains(&module) {
                    wrong.push(format!("{name}:{number}: {layer} must not use {module}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn unsafe_stands_only_where_it_may() {
    let mut wrong = Vec::new();
    for (name, text) in all_files() {
        if UNSAFE.iter().any(|place| name.starts_with(place)) || name == "tests/tidy.rs" {
            continue;
        }
        for (number, line) in text.lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            if code.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word == "unsafe") {
                wrong.push(format!("{name}:{}: {}", number + 1, line.trim()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_file_says_what_it_answers_for_and_stays_short() {
    let mut wrong = Vec::new();
    for (name, text) in all_files() {
        if !text.starts_with("//!") {
            wrong.push(format!("{name}: does not open with //!"));
        }
        let lines = text.lines().count();
        if lines > LINES_MAX {
            wrong.push(format!("{name}: {lines} lines, at most {LINES_MAX}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn nothing_is_left_open_in_the_code() {
    let mut wrong = Vec::new();
    let marks = ["todo!(", "unimplemented!(", "FIXME", "dbg!("];
    for (name, text) in all_files() {
        if name == "tests/tidy.rs" {
            continue;
        }
        for (number, line) in text.lines().enumerate() {
            if marks.iter().any(|mark| line.contains(mark)) {
                wrong.push(format!("{name}:{}: {}", number + 1, line.trim()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn only_the_kernel_seam_reads_the_clock() {
    let mut wrong = Vec::new();
    for (name, text) in rust_files("src") {
        // The program stands above the library, and uses its public API alone; a handle may wait, as
        // no worker does.
        let is_free =
            name.starts_with("src/io/") || name.starts_with("src/bin/") || name == "src/server.rs";
        if is_test(&name) || is_free {
            continue;
        }
        for (number, line) in code_lines(&text) {
            if line.contains("Instant::now") || line.contains("SystemTime") {
                wrong.push(format!("{name}:{number}: {}", line.trim()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
