//! The matrix file: servers, workloads, and how often.
//!
//! All that can be wrong with it is found before the first server starts, and said with the key or
//! the name that was probably meant.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use serde::Deserialize;
use toml::{Table, Value};

use super::nearest::nearest;
use crate::report::{FIGURE_UNITS, unit_of};

const SCENARIOS: [&str; 6] = ["echo", "idle", "fanout", "churn", "storm", "slow"];
/// Filled in for each cell, so no variable may have this name.
const PORT: &str = "port";

/// The file.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Matrix {
    /// Rounds of each workload.
    #[serde(default = "repeats_default")]
    pub(super) repeats: u32,
    /// Ports are taken from here upwards.
    #[serde(default = "port_default")]
    pub(super) port: u16,
    /// Flags of loadgen for every cell, such as `--cores 1`.
    #[serde(default)]
    pub(super) generator: String,
    /// Name of the server that does nothing beyond its system calls.
    pub(super) floor: Option<String>,
    /// What `{name}` stands for in commands, where a workload does not say otherwise.
    #[serde(default)]
    pub(super) vars: BTreeMap<String, String>,
    #[serde(rename = "server")]
    pub(super) servers: Vec<Server>,
    #[serde(rename = "workload")]
    pub(super) workloads: Vec<Workload>,
}

/// A server to compare.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Server {
    pub(super) name: String,
    /// One command, for a shell, with `{port}` in it.
    pub(super) command: String,
    /// The cores it may use, as `taskset -c` takes them.
    pub(super) cores: Option<String>,
    /// Of the URL.
    #[serde(default = "path_default")]
    pub(super) path: String,
    /// Flags of loadgen against this server.
    #[serde(default)]
    pub(super) arguments: String,
    /// What it cannot do, and why: shown in place of figures of workloads that need it.
    #[serde(default)]
    pub(super) without: BTreeMap<String, String>,
}

/// Something to do to each server.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Workload {
    pub(super) name: String,
    /// A scenario of loadgen and its flags.
    pub(super) arguments: String,
    /// The figure that counts.
    pub(super) figure: String,
    /// Figures that are shown beside it.
    #[serde(default)]
    pub(super) also: Vec<String>,
    /// What a server must be able to do for this.
    #[serde(default)]
    pub(super) needs: Vec<String>,
    /// As those of the file, and before them.
    #[serde(default)]
    pub(super) vars: BTreeMap<String, String>,
}

const MATRIX_KEYS: [&str; 7] =
    ["repeats", "port", "generator", "floor", "vars", "server", "workload"];
const SERVER_KEYS: [&str; 6] = ["name", "command", "cores", "path", "arguments", "without"];
const WORKLOAD_KEYS: [&str; 6] = ["name", "arguments", "figure", "also", "needs", "vars"];

impl Matrix {
    /// Reads and checks the file.
    pub(super) fn read(path: &Path) -> Result<Self, String> {
        let text = fs::read_to_string(path)
            .map_err(|error| format!("cannot read {}: {error}", path.display()))?;
        Self::parse(&text).map_err(|error| format!("{}: {error}", path.display()))
    }

    fn parse(text: &str) -> Result<Self, String> {
        let on_one_line = |error: toml::de::Error| {
            let line = error.span().map(|span| line_at(text, span.start));
            let place = line.map(|line| format!("line {line}: ")).unwrap_or_default();
            format!("{place}{}", error.message().trim().replace('\n', "; "))
        };
        let table: Table = text.parse().map_err(on_one_line)?;
        check_keys(text, &table)?;
        let matrix: Self = toml::from_str(text).map_err(on_one_line)?;
        matrix.check()?;
        Ok(matrix)
    }

    /// Drops what was not asked for; no names mean all. The floor stays.
    pub(super) fn keep(&mut self, servers: &[String], workloads: &[String]) -> Result<(), String> {
        let known = self.servers.iter().map(|server| server.name.as_str());
        all_known("server", servers, &known.collect::<Vec<_>>())?;
        let known = self.workloads.iter().map(|workload| workload.name.as_str());
        all_known("workload", workloads, &known.collect::<Vec<_>>())?;
        if !servers.is_empty() {
            let floor = self.floor.as_ref();
            self.servers
                .retain(|server| servers.contains(&server.name) || floor == Some(&server.name));
        }
        if !workloads.is_empty() {
            self.workloads.retain(|workload| workloads.contains(&workload.name));
        }
        Ok(())
    }

    /// The command that starts `server` for `workload` on `port`.
    pub(super) fn command(
        &self,
        server: &Server,
        workload: &Workload,
        port: u16,
    ) -> Result<String, String> {
        let port = port.to_string();
        let value = |name: &str| match name {
            PORT => Some(port.as_str()),
            _ => workload.vars.get(name).or_else(|| self.vars.get(name)).map(String::as_str),
        };
        let command = fill(&server.command, value)
            .map_err(|name| format!("the command of `{}` has {{{name}}}", server.name))?;
        Ok(match &server.cores {
            Some(cores) => format!("taskset -c {cores} {command}"),
            None => command,
        })
    }

    /// Index of the floor.
    pub(super) fn floor_index(&self) -> Option<usize> {
        let floor = self.floor.as_ref()?;
        self.servers.iter().position(|server| server.name == *floor)
    }

    fn check(&self) -> Result<(), String> {
        if self.servers.is_empty() || self.workloads.is_empty() {
            return Err("at least one [[server]] and one [[workload]] are needed".to_owned());
        }
        let servers: Vec<_> = self.servers.iter().map(|server| server.name.as_str()).collect();
        let workloads: Vec<_> =
            self.workloads.iter().map(|workload| workload.name.as_str()).collect();
        all_different("server", &servers)?;
        all_different("workload", &workloads)?;
        if self.repeats == 0 {
            return Err("repeats must be at least 1".to_owned());
        }
        if let Some(floor) = &self.floor {
            all_known("server", std::slice::from_ref(floor), &servers)
                .map_err(|error| format!("floor: {error}"))?;
        }
        self.servers.iter().try_for_each(|server| self.check_server(server))?;
        self.workloads.iter().try_for_each(Workload::check)?;
        plain("generator", &self.generator)
    }

    fn check_server(&self, server: &Server) -> Result<(), String> {
        let name = &server.name;
        if !server.command.contains("{port}") {
            return Err(format!("the command of `{name}` has no {{port}} to listen on"));
        }
        if !server.path.starts_with('/') {
            return Err(format!("the path of `{name}` must begin with a slash"));
        }
        plain(&format!("arguments of `{name}`"), &server.arguments)?;
        let needs: BTreeSet<_> = self
            .workloads
            .iter()
            .flat_map(|workload| &workload.needs)
            .map(String::as_str)
            .collect();
        if let Some(what) = server.without.keys().find(|what| !needs.contains(what.as_str())) {
            let meant = nearest(what, needs.iter().copied());
            let meant = meant.map(|meant| format!("; did you mean `{meant}`?")).unwrap_or_default();
            return Err(format!("`{name}` is without `{what}`, which no workload needs{meant}"));
        }
        for workload in &self.workloads {
            self.command(server, workload, self.port).map_err(|error| {
                format!("{error}, which neither [vars] nor workload `{}` sets", workload.name)
            })?;
        }
        Ok(())
    }
}

impl Server {
    /// Why the workload cannot be done to this server, if the file says so.
    pub(super) fn reason_against(&self, workload: &Workload) -> Option<&str> {
        workload.needs.iter().find_map(|what| self.without.get(what)).map(String::as_str)
    }
}

impl Workload {
    fn check(&self) -> Result<(), String> {
        let name = &self.name;
        plain(&format!("arguments of `{name}`"), &self.arguments)?;
        let scenario = self.arguments.split_whitespace().next().unwrap_or_default();
        if !SCENARIOS.contains(&scenario) {
            return Err(format!(
                "arguments of `{name}` must begin with a scenario ({}), not `{scenario}`",
                SCENARIOS.join(", ")
            ));
        }
        if self.arguments.contains("://") {
            return Err(format!(
                "arguments of `{name}` must not have a URL; each server has its own"
            ));
        }
        for figure in [&self.figure].into_iter().chain(&self.also) {
            if unit_of(figure).is_none() {
                let known = FIGURE_UNITS.iter().map(|(known, _)| *known);
                let meant = nearest(figure, known).unwrap_or_default();
                return Err(format!(
                    "`{name}`: no figure is called `{figure}`; did you mean `{meant}`?"
                ));
            }
        }
        if self.vars.contains_key(PORT) {
            return Err(format!("`{name}`: {{port}} is given out by loadgen"));
        }
        Ok(())
    }
}

fn repeats_default() -> u32 {
    3
}

/// Below the ports that Linux gives to connections.
fn port_default() -> u16 {
    21_000
}

fn path_default() -> String {
    "/".to_owned()
}

/// Keys first, by hand: what serde says of an unknown one does not say which was meant.
fn check_keys(text: &str, table: &Table) -> Result<(), String> {
    check_table(text, "the file", table, &MATRIX_KEYS)?;
    for (list, keys) in [("server", &SERVER_KEYS), ("workload", &WORKLOAD_KEYS)] {
        let entries = match table.get(list) {
            Some(Value::Array(entries)) => entries.as_slice(),
            Some(_) => return Err(format!("write [[{list}]] with two brackets: it is a list")),
            None => return Err(format!("there is no [[{list}]]; at least one is needed")),
        };
        for entry in entries.iter().filter_map(Value::as_table) {
            check_table(text, &format!("[[{list}]]"), entry, keys)?;
        }
    }
    Ok(())
}

fn check_table(text: &str, place: &str, table: &Table, known: &[&str]) -> Result<(), String> {
    if let Some(key) = table.keys().find(|key| !known.contains(&key.as_str())) {
        let is_key = |line: &str| {
            let rest = line.trim_start().trim_start_matches(['[', '"']).strip_prefix(key.as_str());
            rest.is_some_and(|rest| rest.trim_start().starts_with(['=', ']', '.', '"']))
        };
        let line = text.lines().position(is_key).map(|index| format!("line {}: ", index + 1));
        let meant = nearest(key, known.iter().copied()).unwrap_or_default();
        return Err(format!(
            "{}{place} has no key `{key}`; did you mean `{meant}`?",
            line.unwrap_or_default()
        ));
    }
    Ok(())
}

fn line_at(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1
}

/// Arguments are split at white space and nothing else; a quote would be taken literally.
fn plain(what: &str, arguments: &str) -> Result<(), String> {
    if arguments.contains(['"', '\'', '\\']) {
        return Err(format!("{what}: they are split at white space, so quotes mean nothing here"));
    }
    Ok(())
}

fn all_different(what: &str, names: &[&str]) -> Result<(), String> {
    if let Some(name) = names.iter().find(|name| name.contains(',') || name.trim().is_empty()) {
        return Err(format!(
            "`{name}` cannot be the name of a [[{what}]]: no comma, and not empty"
        ));
    }
    let mut seen = BTreeSet::new();
    match names.iter().find(|name| !seen.insert(**name)) {
        Some(name) => Err(format!("two [[{what}]] are called `{name}`")),
        None => Ok(()),
    }
}

fn all_known(what: &str, asked: &[String], known: &[&str]) -> Result<(), String> {
    match asked.iter().find(|name| !known.contains(&name.as_str())) {
        Some(name) => {
            let meant = nearest(name, known.iter().copied()).unwrap_or_default();
            Err(format!("no {what} is called `{name}`; did you mean `{meant}`?"))
        }
        None => Ok(()),
    }
}

/// The text with each `{name}` replaced; the error is a name without a value.
///
/// Braces around anything else, and `${name}`, are the shell's.
fn fill<'a>(text: &str, value: impl Fn(&str) -> Option<&'a str>) -> Result<String, String> {
    let mut filled = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('{') {
        filled.push_str(before);
        let name = after.split_once('}').map_or("", |(name, _)| name);
        let is_name =
            !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
        if is_name && !before.ends_with('$') {
            filled.push_str(value(name).ok_or_else(|| name.to_owned())?);
            rest = &after[name.len() + 1..];
        } else {
            filled.push('{');
            rest = after;
        }
    }
    Ok(filled + rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
        repeats = 2
        generator = "--cores 1"
        floor = "bare"
        [vars]
        mode = "echo"
        [[server]]
        name = "bare"
        command = "bare --listen 127.0.0.1:{port} --bytes {bytes}"
        arguments = "--no-verify"
        without = { fanout = "it knows one connection at a time" }
        [[server]]
        name = "other"
        command = "other --mode {mode} {port} ${HOME} {1..3}"
        cores = "0,2"
        [[workload]]
        name = "small"
        arguments = "echo --size 20"
        figure = "server_cpu_us_per_message"
        also = ["p99"]
        vars = { bytes = "26" }
        [[workload]]
        name = "all"
        arguments = "fanout"
        figure = "delivery.p50"
        needs = ["fanout"]
        vars = { bytes = "0", mode = "broadcast" }
    "#;

    fn refusal(from: &str, to: &str) -> String {
        assert!(GOOD.contains(from), "{from}");
        let error = Matrix::parse(&GOOD.replacen(from, to, 1)).unwrap_err();
        assert!(!error.contains('\n'), "{error}");
        error
    }

    #[test]
    fn file_is_read_with_its_defaults() {
        let matrix = Matrix::parse(GOOD).unwrap();
        assert_eq!((matrix.repeats, matrix.port, matrix.floor_index()), (2, 21_000, Some(0)));
        assert_eq!(matrix.servers[1].path, "/");
        let reason = matrix.servers[0].reason_against(&matrix.workloads[1]);
        assert_eq!(reason, Some("it knows one connection at a time"));
        assert_eq!(matrix.servers[0].reason_against(&matrix.workloads[0]), None);
        assert_eq!(matrix.servers[1].reason_against(&matrix.workloads[1]), None);
    }

    #[test]
    fn command_is_filled_for_its_workload_and_put_on_its_cores() {
        let matrix = Matrix::parse(GOOD).unwrap();
        let command = |server: usize, workload: usize| {
            matrix.command(&matrix.servers[server], &matrix.workloads[workload], 7).unwrap()
        };
        assert_eq!(command(0, 0), "bare --listen 127.0.0.1:7 --bytes 26");
        assert_eq!(command(1, 0), "taskset -c 0,2 other --mode echo 7 ${HOME} {1..3}");
        assert_eq!(command(1, 1), "taskset -c 0,2 other --mode broadcast 7 ${HOME} {1..3}");
    }

    #[test]
    fn unknown_key_is_refused_with_its_line_and_the_nearest_one() {
        assert_eq!(
            refusal("cores = ", "core = "),
            "line 15: [[server]] has no key `core`; did you mean `cores`?"
        );
        assert_eq!(
            refusal("repeats", "repeat"),
            "line 2: the file has no key `repeat`; did you mean `repeats`?"
        );
        assert_eq!(
            refusal("figure = \"server", "figures = \"server"),
            "line 19: [[workload]] has no key `figures`; did you mean `figure`?"
        );
        assert!(refusal("[vars]", "[var]").contains("did you mean `vars`?"));
    }

    #[test]
    fn wrong_type_and_missing_key_are_said_with_their_line() {
        assert!(refusal("repeats = 2", "repeats = \"2\"").starts_with("line 2: "));
        assert!(refusal("name = \"other\"", "").contains("missing field `name`"));
        assert!(refusal("repeats = 2", "repeats = ").starts_with("line 2: "));
        assert!(refusal("repeats = 2", "repeats = 0").contains("at least 1"));
    }

    #[test]
    fn names_that_do_not_exist_are_refused_with_the_nearest_one() {
        assert!(refusal("floor = \"bare\"", "floor = \"bear\"").contains("did you mean `bare`?"));
        assert!(
            refusal("us_per_message", "us_per_massage").contains("`server_cpu_us_per_message`?")
        );
        assert!(refusal("[\"p99\"]", "[\"p98\"]").contains("no figure is called `p98`"));
        assert!(refusal("{ fanout", "{ fan_out").contains("did you mean `fanout`?"));
        assert!(refusal("name = \"other\"", "name = \"bare\"").contains("two [[server]]"));
        assert!(refusal("name = \"other\"", "name = \"a, b\"").contains("no comma"));
        let mut matrix = Matrix::parse(GOOD).unwrap();
        let error = matrix.keep(&["othr".to_owned()], &[]).unwrap_err();
        assert_eq!(error, "no server is called `othr`; did you mean `other`?");
    }

    #[test]
    fn commands_and_arguments_that_cannot_work_are_refused() {
        assert!(refusal("{port} $", "9001 $").contains("no {port}"));
        assert!(refusal("{bytes}", "{byte}").contains("{byte}, which neither"));
        assert!(refusal("\"echo --size", "\"ehco --size").contains("must begin with a scenario"));
        assert!(refusal("--size 20", "ws://x").contains("must not have a URL"));
        assert!(refusal("--cores 1", "--header 'a: b'").contains("quotes mean nothing"));
    }

    #[test]
    fn only_what_was_asked_for_is_kept_and_the_floor() {
        let mut matrix = Matrix::parse(GOOD).unwrap();
        matrix.keep(&["other".to_owned()], &["all".to_owned()]).unwrap();
        assert_eq!((matrix.servers.len(), matrix.workloads.len()), (2, 1));
        let mut matrix = Matrix::parse(&GOOD.replacen("floor = \"bare\"", "", 1)).unwrap();
        matrix.keep(&["other".to_owned()], &[]).unwrap();
        assert_eq!((matrix.servers.len(), matrix.workloads.len()), (1, 2));
    }
}
