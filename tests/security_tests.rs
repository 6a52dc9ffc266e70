//! Keeps `docs/SECURITY-TESTS.md`: which tests cover which row of `docs/HOSTILE-INPUTS.md`.
//!
//! The page is made of the names of the tests, so it cannot say what is not there. Make it anew
//! with `WRITE_DOCS=1 cargo test --test security_tests`.

#![expect(clippy::unwrap_used, reason = "a test that cannot read the source has failed")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

/// Sections of `docs/HOSTILE-INPUTS.md` of which every row has a test.
const COMPLETE: &[&str] = &[
    "R", "PX", "TL", "HD", "HS", "HP", "FR", "CT", "FG", "PD", "CL", "BP", "PS", "BK", "TM", "LC",
];

/// Rows for which there is nothing to test, and why.
const EXCUSED: &[(&str, &str)] = &[
    ("HD14", "no request with a body is read, chunked or not: both are refused (`hs08`, `hp02`)"),
    ("TL11", "verification is the library's; `make deny` watches its advisories"),
    ("PD08", "documented at `Compression` and `Accept::compression`"),
];

const PAGE: &str = "docs/SECURITY-TESTS.md";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn is_row(text: &str) -> bool {
    let letters = text.bytes().take_while(u8::is_ascii_uppercase).count();
    let digits = text.len() - letters;
    matches!((letters, digits), (1 | 2, 1 | 2))
        && text[letters..].bytes().all(|b| b.is_ascii_digit())
}

/// The rows of the threat list, in its order.
fn rows() -> Vec<String> {
    let text = fs::read_to_string(root().join("docs/HOSTILE-INPUTS.md")).unwrap();
    let cell = |line: &str| line.strip_prefix("| ")?.split(" |").next().map(str::to_owned);
    let mut rows: Vec<String> = Vec::new();
    for row in text.lines().filter_map(cell).filter(|cell| is_row(cell)) {
        if !rows.contains(&row) {
            rows.push(row);
        }
    }
    assert!(rows.len() > 100, "the list was read");
    rows
}

/// Tests by row: name and file.
fn tests() -> BTreeMap<String, Vec<(String, String)>> {
    let mut folders: Vec<PathBuf> =
        ["src", "tests", "loadgen"].iter().map(|folder| root().join(folder)).collect();
    let mut tests: BTreeMap<String, Vec<(String, String)>> = BTreeMap::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() && !path.ends_with("target") {
                folders.push(path);
                continue;
            }
            if path.extension().is_none_or(|extension| extension != "rs") {
                continue;
            }
            let file = path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned();
            let text = fs::read_to_string(&path).unwrap();
            for line in text.lines() {
                let Some(name) = line.trim_start().strip_prefix("fn ") else { continue };
                let Some((id, _)) = name.split_once('_') else { continue };
                let row = id.to_ascii_uppercase();
                if is_row(&row) && id != row {
                    let name = name.split('(').next().unwrap().to_owned();
                    tests.entry(row).or_default().push((name, file.clone()));
                }
            }
        }
    }
    for tests in tests.values_mut() {
        tests.sort();
        tests.dedup();
    }
    tests
}

fn section(row: &str) -> &str {
    row.trim_end_matches(|c: char| c.is_ascii_digit())
}

fn page() -> String {
    let (rows, tests) = (rows(), tests());
    let mut page = String::from(
        "# Security tests\n\nWhich tests cover which row of [HOSTILE-INPUTS.md](HOSTILE-INPUTS.md); \
         `cargo test hs07` runs those of one row.\nMade from the names of the tests by \
         `WRITE_DOCS=1 cargo test --test security_tests`, which also keeps it\ncurrent.\n\n\
         | row | tests |\n|---|---|\n",
    );
    for row in &rows {
        let cell = match (tests.get(row), EXCUSED.iter().find(|(excused, _)| excused == row)) {
            (Some(tests), _) => tests
                .iter()
                .map(|(name, file)| format!("`{name}` ({file})"))
                .collect::<Vec<_>>()
                .join("<br>"),
            (None, Some((_, reason))) => format!("none: {reason}"),
            (None, None) => "none yet".to_owned(),
        };
        writeln!(page, "| {row} | {cell} |").unwrap();
    }
    page
}

#[test]
fn page_of_security_tests_is_current() {
    let path = root().join(PAGE);
    let page = page();
    if std::env::var_os("WRITE_DOCS").is_some() {
        fs::write(&path, &page).unwrap();
    }
    let kept = fs::read_to_string(&path).unwrap_or_default();
    let hint = "make it anew: WRITE_DOCS=1 cargo test --test security_tests";
    assert!(kept == page, "{PAGE} is not what the tests are; {hint}");
}

#[test]
fn every_row_of_the_complete_sections_has_a_test() {
    let tests = tests();
    let missing: Vec<String> = rows()
        .into_iter()
        .filter(|row| COMPLETE.contains(&section(row)) && !tests.contains_key(row))
        .filter(|row| EXCUSED.iter().all(|(excused, _)| excused != row))
        .collect();
    assert!(missing.is_empty(), "rows without a test: {}", missing.join(", "));
}
