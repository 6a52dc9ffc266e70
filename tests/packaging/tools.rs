//! Files of this project, folders of a test, and the software of others that reads our files.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::backends::skip;
use crate::process::{longwire, run};

/// A file of the project.
pub(crate) fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// What stands in a file of the project.
pub(crate) fn text(name: &str) -> String {
    fs::read_to_string(file(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// What the program says on standard output.
pub(crate) fn said(args: &[&str]) -> String {
    let output = run(longwire(args));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "longwire {args:?}: {stderr}");
    String::from_utf8(output.stdout).unwrap()
}

/// The long flags that a help or a page names at the beginning of a line.
pub(crate) fn flags(help: &str) -> BTreeSet<String> {
    let named = help.lines().filter_map(|line| {
        let line = line.trim_start();
        let line = line.strip_prefix("-h, ").or_else(|| line.strip_prefix("-V, ")).unwrap_or(line);
        let name = line.strip_prefix("--")?;
        let end = name.find(|c: char| !c.is_ascii_lowercase() && c != '-').unwrap_or(name.len());
        (end > 0).then(|| format!("--{}", &name[..end]))
    });
    named.collect()
}

/// The commands that the help lists, and those that their helps list: `serve`.
pub(crate) fn commands() -> Vec<String> {
    below("")
}

fn below(command: &str) -> Vec<String> {
    let help = help(command);
    let Some((_, list)) = help.split_once("Commands:\n") else { return Vec::new() };
    let mut names = Vec::new();
    for line in list.split("\n\n").next().unwrap().lines() {
        // Continued explanations are indented further.
        let name = line.strip_prefix("  ").and_then(|line| line.split(' ').next()).unwrap();
        if !name.is_empty() && name != "help" {
            let whole = format!("{command} {name}").trim_start().to_owned();
            names.extend(below(&whole));
            names.push(whole);
        }
    }
    names
}

/// What a command says of itself; of the program, if it has no name.
pub(crate) fn help(command: &str) -> String {
    said(&command.split(' ').filter(|word| !word.is_empty()).chain(["--help"]).collect::<Vec<_>>())
}

/// Where a program is, if it is there; where it is not, the test says so. Services stand in folders
/// that are not on the path of every user.
pub(crate) fn tool(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    let found = folders.map(|folder| folder.join(name)).find(|program| program.is_file());
    if found.is_none() {
        skip(name, "not found; run tests/setup proxies packaging");
    }
    found
}

/// Runs a program that reads our files; it must be content. Returns what it says.
pub(crate) fn expect_success<S: AsRef<OsStr>>(program: &Path, args: &[S]) -> String {
    let (is_content, told) = ask(program, args);
    assert!(is_content, "{}: {told}", program.display());
    told
}

/// The same with one that also says by its end whether it had anything to say.
pub(crate) fn expect_told<S: AsRef<OsStr>>(program: &Path, args: &[S]) -> String {
    ask(program, args).1
}

fn ask<S: AsRef<OsStr>>(program: &Path, args: &[S]) -> (bool, String) {
    let mut command = Command::new(program);
    command.args(args);
    // Without a limit of ours: on a busy machine some of these take their time.
    let output = command.stdin(Stdio::null()).output().unwrap();
    let told = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&told).into_owned())
}

/// The same, and it must have nothing to say.
pub(crate) fn expect_silence<S: AsRef<OsStr>>(program: &Path, args: &[S]) {
    assert_eq!(expect_success(program, args), "", "{program:?}");
}

/// A folder of one test, gone with it.
#[derive(Debug)]
pub(crate) struct Folder(pub(crate) PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("longwire-packaging-{}-{count}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }

    /// A file in it with this text.
    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let file = self.0.join(name);
        fs::write(&file, text).unwrap();
        file
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
