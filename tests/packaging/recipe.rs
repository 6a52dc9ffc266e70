//! The recipe of the image, as far as it can be read: what it copies is there, what it starts
//! is the program, with flags that it has, and not as root. `tests/run-image` builds and runs it.

use std::net::SocketAddr;
use std::process::Command;

use crate::client::Client;
use crate::process::{Program, longwire};
use crate::tools::{commands, file, flags, said, text};

/// A line of the recipe: what is to be done, and with what.
type Step = (String, String);

/// The steps of each stage.
fn stages() -> Vec<Vec<Step>> {
    let recipe = text("Dockerfile").replace("\\\n", " ");
    let lines = recipe.lines().map(str::trim);
    let mut stages: Vec<Vec<Step>> = vec![Vec::new()];
    for line in lines.filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (verb, rest) = line.split_once(' ').unwrap();
        if verb == "FROM" {
            stages.push(Vec::new());
        }
        stages.last_mut().unwrap().push((verb.to_owned(), rest.trim().to_owned()));
    }
    stages
}

/// What a stage says about this; it must say it once.
fn only<'a>(stage: &'a [Step], verb: &str) -> &'a str {
    let mut found = stage.iter().filter(|(one, _)| one == verb);
    let step = found.next().unwrap_or_else(|| panic!("no {verb}"));
    assert!(found.next().is_none(), "{verb} twice");
    &step.1
}

/// The strings of a list in JSON.
fn list(text: &str) -> Vec<String> {
    serde_json::from_str(text).unwrap()
}

/// Whether the build sees this file of the project.
fn is_in_context(name: &str) -> bool {
    assert!(file(name).exists(), "{name}");
    let ignored = text(".dockerignore");
    let ignored = ignored.lines().filter_map(|line| line.strip_prefix('/'));
    !ignored.into_iter().any(|one| name == one || name.starts_with(&format!("{one}/")))
}

/// The value of an argument at the head of the recipe.
fn argument(name: &str) -> String {
    let head = &stages()[0];
    let found = head.iter().find_map(|(_, rest)| rest.strip_prefix(name)?.strip_prefix('='));
    found.unwrap_or_else(|| panic!("no ARG {name}")).to_owned()
}

#[test]
fn image_has_the_program_that_its_first_stage_builds() {
    let [_, build, last] = &stages()[..] else { panic!("two stages") };
    assert_eq!(only(build, "FROM"), "${RUST_IMAGE} AS build");
    assert_eq!(only(build, "RUN"), "cargo build --release --locked --bin longwire");
    let (from, to) = only(last, "COPY").split_once(' ').unwrap();
    assert_eq!(from, "--from=build");
    let built = format!("{}/target/release/longwire", only(build, "WORKDIR"));
    let start = list(only(last, "ENTRYPOINT"));
    assert_eq!(to, format!("{built} {}", start[0]));
    assert_eq!(start.len(), 1);
}

#[test]
fn build_of_the_image_sees_all_that_cargo_reads() {
    let manifest = text("Cargo.toml");
    let paths = manifest.lines().filter_map(|line| line.strip_prefix("path = \""));
    let paths = paths.map(|path| path.trim_end_matches('"'));
    let others =
        ["Cargo.toml", "Cargo.lock", "src/lib.rs", "loadgen/Cargo.toml", "loadgen/src/main.rs"];
    let others =
        others.into_iter().chain(["benches/kernels.rs", "src/bin/longwire/admin/page.html"]);
    for name in paths.chain(others) {
        assert!(is_in_context(name), "{name} is in .dockerignore");
    }
    assert!(!is_in_context("tests/tidy.rs"), "and what it does not read is left out");
}

#[test]
fn images_that_the_recipe_begins_with_belong_together() {
    let rust = argument("RUST_IMAGE");
    let version = rust.split_once("/rust:").unwrap().1;
    let (version, system) = version.split_once("-slim-").unwrap();
    let oldest = text("Cargo.toml");
    let oldest = oldest.split_once("rust-version = \"1.").unwrap().1.split('"').next().unwrap();
    let minor = version.split('.').nth(1).unwrap();
    assert!(minor.parse::<u32>().unwrap() >= oldest.parse().unwrap(), "{version}");
    // The same release of Debian, for the program needs the C library that it was built with.
    assert_eq!(system, "bookworm");
    let base = argument("BASE_IMAGE");
    assert!(base.ends_with("/cc-debian12:nonroot"), "{base}");
}

#[test]
fn image_runs_as_nobody_and_is_stopped_by_a_drain() {
    let stages = stages();
    let last = stages.last().unwrap();
    let user = only(last, "USER");
    let ids: Vec<u32> = user.split(':').map(|id| id.parse().unwrap()).collect();
    assert!(ids.len() == 2 && ids.iter().all(|&id| id != 0), "{user}");
    assert_eq!(only(last, "STOPSIGNAL"), "SIGTERM");
    // The head of the recipe names flags of docker run, and files of this project.
    let recipe = text("Dockerfile");
    let profile = recipe.split_once("seccomp=").unwrap().1.split_whitespace().next().unwrap();
    assert!(file(profile).is_file(), "{profile}");
    let patience =
        recipe.split_once("--stop-timeout ").unwrap().1.split_whitespace().next().unwrap();
    let help = said(&["serve", "--help"]);
    let seconds = |flag: &str| {
        let rest = help.split_once(flag).unwrap().1.split_once("[default: ").unwrap().1;
        rest.split('s').next().unwrap().parse::<u32>().unwrap()
    };
    let drain = seconds("--drain-time <TIME>") + seconds("--stop-timeout <TIME>");
    assert!(patience.parse::<u32>().unwrap() > drain, "{patience}");
}

#[test]
fn command_of_the_image_serves_at_the_port_that_it_exposes() {
    let stages = stages();
    let last = stages.last().unwrap();
    let command = list(only(last, "CMD"));
    assert!(commands().contains(&command[0]), "{command:?}");
    let known = flags(&said(&[&command[0], "--help"]));
    for flag in command.iter().filter(|word| word.starts_with("--")) {
        assert!(known.contains(flag), "{flag}");
    }
    let port = only(last, "EXPOSE");
    let address = format!("0.0.0.0:{port}");
    assert!(command.contains(&address), "{command:?}");
    let args: Vec<&str> = command
        .iter()
        .map(|word| if *word == address { "0.0.0.0:0" } else { word.as_str() })
        .chain(["--admin", "none", "--drain-time", "0s"])
        .collect();
    let started: Command = longwire(&args);
    let program = Program::start_by(started);
    let addr = SocketAddr::from(([127, 0, 0, 1], program.addr.port()));
    Client::open_at(addr, "/echo").echo("from outside");
}
