//! The configuration: where a value comes from, what is printed, and what is said of mistakes.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::client::Client;
use crate::process::{Program, expect_refusal, longwire, run};

/// A file with a name of its own; gone with this.
#[derive(Debug)]
pub(crate) struct File(PathBuf);

impl File {
    pub(crate) fn new(text: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("longwire-config-{}-{number}.toml", std::process::id());
        let file = Self(std::env::temp_dir().join(name));
        file.write(text);
        file
    }

    /// Replaces it in one step, as careful editors do.
    pub(crate) fn write(&self, text: &str) {
        let draft = self.0.with_extension("draft");
        fs::write(&draft, text).unwrap();
        fs::set_permissions(&draft, fs::Permissions::from_mode(0o600)).unwrap();
        fs::rename(&draft, &self.0).unwrap();
    }

    pub(crate) fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn text(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (text(&output.stdout), text(&output.stderr))
}

fn checked(file: &str) -> (Option<i32>, Vec<String>) {
    let output = run(longwire(&["config", "check", file]));
    let (stdout, stderr) = text(&output);
    let lines = stdout.lines().chain(stderr.lines()).map(str::to_owned).collect();
    (output.status.code(), lines)
}

/// What `config print` says of these settings, as `KEY = VALUE  # SOURCE` with single blanks.
fn printed(command: Command) -> Vec<String> {
    let output = run(command);
    let (stdout, stderr) = text(&output);
    assert_eq!((output.status.code(), stderr.as_str()), (Some(0), ""));
    let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    stdout.lines().map(words).collect()
}

#[test]
fn flags_win_over_variables_over_the_file_over_defaults() {
    let file = File::new("message_bytes_max = '2K'\nworkers = 1\n");
    let path = file.path();
    for (in_file, variable, flag, bytes, source) in [
        (false, None, None, "64K", "default"),
        (true, None, None, "2K", "FILE:1"),
        (true, Some("3K"), None, "3K", "LONGWIRE_MESSAGE_BYTES_MAX"),
        (true, Some("3K"), Some("4K"), "4K", "--message-bytes-max"),
        (true, None, Some("4K"), "4K", "--message-bytes-max"),
        (false, Some("3K"), None, "3K", "LONGWIRE_MESSAGE_BYTES_MAX"),
        (false, Some("3K"), Some("4K"), "4K", "--message-bytes-max"),
    ] {
        let mut flags = vec!["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"];
        flags.extend(["--allow-any-origin"]);
        flags.extend(in_file.then_some(["--config", path]).into_iter().flatten());
        flags.extend(flag.map(|bytes| ["--message-bytes-max", bytes]).into_iter().flatten());
        let command = |first: &[&str]| {
            let mut command = longwire(first);
            command.args(&flags).envs(variable.map(|bytes| ("LONGWIRE_MESSAGE_BYTES_MAX", bytes)));
            command
        };
        let sign = if source == "default" { "#" } else { "" };
        let source = source.replace("FILE", path);
        let line = format!("{sign}message_bytes_max = \"{bytes}\" # {source}");
        let lines = printed(command(&["config", "print"]));
        assert!(lines.contains(&line), "{line}: {lines:?}");
        let program = Program::start_by(command(&["serve"]));
        let number: usize = bytes.trim_end_matches('K').parse().unwrap();
        let said = format!("messages of {} bytes", number * 1024);
        assert!(program.announced("limits").contains(&said), "{said}: {:?}", program.announcement);
    }
}

#[test]
fn variable_names_the_file_and_a_flag_another() {
    let first = File::new("conns_max = 11\n");
    let second = File::new("conns_max = 12\n");
    let mut command = longwire(&["config", "print"]);
    command.env("LONGWIRE_CONFIG", first.path());
    assert!(printed(command).contains(&format!("conns_max = 11 # {}:1", first.path())));
    let mut command = longwire(&["config", "print", "--config", second.path()]);
    command.env("LONGWIRE_CONFIG", first.path());
    assert!(printed(command).contains(&format!("conns_max = 12 # {}:1", second.path())));
}

/// Lists are replaced, not joined, and what was typed may contradict what is written.
#[test]
fn weaker_word_gives_way_to_one_that_excludes_it() {
    let file =
        File::new("origin = ['https://a.example']\nlisten = ['127.0.0.1:1', '127.0.0.1:2']\n");
    let flags = ["config", "print", "--config", file.path()];
    let lines = printed(longwire(&[&flags[..], &["--allow-any-origin"]].concat()));
    assert!(lines.contains(&"allow_any_origin = true # --allow-any-origin".to_owned()));
    assert!(lines.contains(&"#origin = [] # default".to_owned()), "{lines:?}");
    let lines = printed(longwire(&[&flags[..], &["--listen", "127.0.0.1:3"]].concat()));
    assert!(lines.contains(&"listen = [\"127.0.0.1:3\"] # --listen".to_owned()), "{lines:?}");
    let mut command = longwire(&flags);
    command.env("LONGWIRE_LISTEN", "127.0.0.1:4,[::1]:4");
    let lines = printed(command);
    let line = "listen = [\"127.0.0.1:4\", \"[::1]:4\"] # LONGWIRE_LISTEN";
    assert!(lines.contains(&line.to_owned()), "{lines:?}");
    let (code, lines) =
        checked(File::new("allow_any_origin = true\norigin = 'https://a'\n").path());
    assert_eq!(code, Some(1));
    assert!(lines[0].contains("excludes") && lines[0].contains("origin"), "{lines:?}");
}

#[test]
fn switch_of_the_file_is_turned_off_by_a_variable() {
    let file = File::new("deflate = true\n");
    for (value, shown) in [("false", "false"), ("0", "false"), ("on", "true"), ("TRUE", "true")] {
        let mut command = longwire(&["config", "print", "--config", file.path()]);
        command.env("LONGWIRE_DEFLATE", value);
        let line = format!("deflate = {shown} # LONGWIRE_DEFLATE");
        assert!(printed(command).contains(&line), "{value}");
    }
    // What is said of compression in the same file then says nothing.
    let details = File::new("deflate = true\ndeflate_level = 3\n");
    let mut command = longwire(&["config", "print", "--config", details.path()]);
    command.env("LONGWIRE_DEFLATE", "false");
    assert!(printed(command).contains(&"#deflate_level = 1 # default".to_owned()));
    let mut command = longwire(&["serve", "--config", file.path()]);
    command.env("LONGWIRE_DEFLATE", "maybe");
    expect_refusal(command, &["LONGWIRE_DEFLATE: give true or false"]);
}

/// Every key, without a list of them here.
#[test]
fn every_default_that_is_printed_is_taken_from_its_variable_and_from_a_file() {
    let output = run(longwire(&["config", "print", "--default"]));
    let (defaults, _) = text(&output);
    let keys: Vec<(&str, &str)> = defaults
        .lines()
        .filter(|line| !line.starts_with("# "))
        .filter_map(|line| line.strip_prefix('#')?.split_once(" = "))
        .collect();
    assert!(keys.len() > 70, "{keys:?}");
    // Words in capitals stand for what has no default.
    let is_placeholder = |value: &str| {
        let text = value.trim_matches('"');
        value.starts_with('"') && text.chars().all(|c| c.is_ascii_uppercase())
    };
    let valued: Vec<_> = keys
        .into_iter()
        .filter(|(_, value)| !["[]", "false"].contains(value) && !is_placeholder(value))
        .collect();
    assert!(valued.len() > 35, "{valued:?}");
    let text: String = valued.iter().map(|(key, value)| format!("{key} = {value}\n")).collect();
    // Some need it.
    let file = File::new(&(text + "deflate = true\n"));
    let from_file = printed(longwire(&["config", "print", "--config", file.path()]));
    let mut command = longwire(&["config", "print", "--deflate"]);
    for (key, value) in &valued {
        let value = value.trim_matches(['[', ']']).replace('"', "").replace(", ", ",");
        command.env(format!("LONGWIRE_{}", key.to_uppercase()), value);
    }
    let from_variables = printed(command);
    for (at, (key, value)) in valued.iter().enumerate() {
        let line = format!("{key} = {value} # {}:{}", file.path(), at + 1);
        assert!(from_file.contains(&line), "{line}");
        let line = format!("{key} = {value} # LONGWIRE_{}", key.to_uppercase());
        assert!(from_variables.contains(&line), "{line}");
    }
    assert_eq!(checked(file.path()).0, Some(0));
}

#[test]
fn printed_defaults_are_a_file_to_begin_with() {
    let output = run(longwire(&["config", "print", "--default"]));
    let file = File::new(&text(&output).0);
    assert_eq!(
        checked(file.path()),
        (Some(0), vec![format!("{}: 0 settings, all is well", file.path())])
    );
    let mut command = longwire(&["serve", "--config", file.path()]);
    command.args(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--workers", "1"]);
    let program = Program::start_by(command);
    assert!(program.announced("limits").contains("messages of 65536 bytes"));
    Client::open_at(program.addr, "/echo").echo("as ever");
}

#[test]
fn secrets_are_printed_nowhere() {
    let file = File::new("admin_token = 'hush'\nbroker = 'nats://me:hush@b.example'\n");
    let lines = printed(longwire(&["config", "print", "--config", file.path()]));
    let hidden = |key: &str, at: usize| format!("{key} = \"(hidden)\" # {}:{at}", file.path());
    assert!(lines.contains(&hidden("admin_token", 1)), "{lines:?}");
    assert!(lines.contains(&hidden("broker", 2)), "{lines:?}");
    assert!(lines.iter().all(|line| !line.contains("hush")));
    for wrong in
        ["admin_token = 'hush hush'\n", "broker = 'nats://hush@b:0'\n", "broker = ['hush']\n"]
    {
        let file = File::new(wrong);
        let (code, lines) = checked(file.path());
        assert_eq!(code, Some(1), "{wrong}");
        assert!(lines[0].starts_with(&format!("longwire: {}:1: ", file.path())), "{lines:?}");
        assert!(lines.iter().all(|line| !line.contains("hush")), "{lines:?}");
    }
}

#[test]
fn secret_that_others_can_read_is_warned_of() {
    let file = File::new("conns_max = 9\nadmin_token = 'hush'\n");
    let warns = || {
        let (code, lines) = checked(file.path());
        assert_eq!(code, Some(0));
        lines.iter().any(|line| {
            line.contains(&format!("warning: {}:2: admin_token", file.path()))
                && line.contains("chmod")
                && line.contains("LONGWIRE_ADMIN_TOKEN")
        })
    };
    assert!(!warns());
    fs::set_permissions(file.path(), fs::Permissions::from_mode(0o644)).unwrap();
    assert!(warns());
}

/// Files that cannot be, what is said of them, and on which line.
const BROKEN: [(&str, &str); 28] = [
    ("conn_max = 5", ":1: unknown key `conn_max`; did you mean `conns_max`?"),
    ("\n\nconns-max = 5", ":3: unknown key `conns-max`; did you mean `conns_max`?"),
    ("zzz = 5", ":1: unknown key `zzz`; `longwire config print --default` lists"),
    ("[limits]\nconns_max = 5", ":1: `limits` is a table"),
    ("conns_max = 5\nconns_max = 6", ":2: column 1: duplicate key"),
    ("conns_max = ", ":1: column 13: "),
    ("conns_max 5", ":1: column"),
    ("log = \"info", ":1: column"),
    ("conns_max = 5.5", ":1: conns_max: give a whole number"),
    ("conns_max = \"many\"", ":1: conns_max: give a whole number"),
    ("conns_max = true", ":1: conns_max: give text in quotes, or a number"),
    ("conns_max = -1", ":1: conns_max: give a whole number"),
    ("conns_max = 0", ":1: conns_max is 0; it must be at least 1"),
    ("message_bytes_max = \"64KB\"", ":1: message_bytes_max: give bytes, or K, M, G"),
    ("message_bytes_max = 124", ":1: message_bytes_max is 124; it must be at least 125"),
    ("ping_interval = 30", ":1: ping_interval: give a whole number and a unit"),
    ("ping_interval = '0s'", ":1: ping_interval is 0; it must be longer"),
    ("idle_timeout = '0s'", ":1: idle_timeout is 0; it must be longer"),
    ("log = 'inof'", ":1: log: `inof` is no level"),
    (
        "log = 'info,closed=debug'",
        ":1: log: `closed` is no part of the log; did you mean `closes`?",
    ),
    ("deflate = 'yes'", ":1: deflate: give true or false"),
    ("deflate_level = 3", ":1: deflate_level: it needs deflate as well"),
    ("deflate = true\ndeflate_level = 10", ":2: deflate_level: 10 is not in 1..=9"),
    ("listen = [\n  '127.0.0.1:1',\n  5.0,\n]", ":3: listen: give a whole number"),
    ("listen = []", ":1: listen: the list is empty"),
    ("origin = 'example'", ":1: `example` is not an origin"),
    ("tls_cert = '/nope.pem'\ntls_key = '/nope.key'", ":1: "),
    ("latest = ['a']\ndrop_oldest = ['a=1']", ":1: give `a` to --latest or --drop-oldest once"),
];

#[test]
fn lc03_broken_file_is_refused_with_its_line_and_what_to_write() {
    for (broken, said) in BROKEN {
        let file = File::new(broken);
        let (code, lines) = checked(file.path());
        assert_eq!(code, Some(1), "{broken:?}: {lines:?}");
        assert_eq!(lines.len(), 1, "{broken:?}: {lines:?}");
        assert!(
            lines[0].starts_with("longwire: ") && lines[0].contains(said),
            "{broken:?}: {lines:?}"
        );
        let is_placed = said.starts_with(':');
        let place = format!("longwire: {}{said}", file.path());
        assert!(!is_placed || lines[0].starts_with(&place), "{broken:?}: {lines:?}");
        let flags = ["--admin", "127.0.0.1:0", "--workers", "1"];
        let mut command = longwire(&["serve", "--config", file.path()]);
        command.args(flags);
        if !broken.starts_with("listen") {
            command.args(["--listen", "127.0.0.1:0"]);
        }
        expect_refusal(command, &[said]);
    }
}

#[test]
fn lc03_administration_has_a_port_of_its_own() {
    let file = File::new("backlog = 5\nlisten = '127.0.0.1:1'\nadmin = '127.0.0.1:1'\n");
    let (code, lines) = checked(file.path());
    assert_eq!((code, lines.len()), (Some(1), 1), "{lines:?}");
    assert!(
        lines[0]
            .ends_with("admin is 127.0.0.1:1, where clients connect; give it a port of its own")
    );
    file.write("listen = '127.0.0.1:0'\nadmin = '127.0.0.1:0'\n");
    assert_eq!(checked(file.path()).0, Some(0), "the kernel chooses two");
}

#[test]
fn lc03_certificates_of_no_use_hide_no_other_fault() {
    let file = File::new("workers = 5000\ntls_cert = '/nope.pem'\ntls_key = '/nope.key'\n");
    let (code, lines) = checked(file.path());
    assert_eq!((code, lines.len()), (Some(1), 2), "{lines:?}");
    assert!(lines[0].contains(":1: workers is 5000"), "{lines:?}");
    assert!(lines[1].contains(":2: ") && lines[1].contains("/nope.pem"), "{lines:?}");
}

#[test]
fn fault_of_an_address_is_placed_where_that_stands() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap();
    let file = File::new(&format!("listen = '127.0.0.1:0'\nadmin = '{addr}'\n"));
    let output = run(longwire(&["serve", "--config", file.path()]));
    let said = text(&output).1;
    assert!(said.contains(&format!("{}:2: ", file.path())), "{said}");
}

#[test]
fn lc03_all_faults_of_a_file_are_said_at_once_in_their_order() {
    let file = File::new(
        "conn_max = 1\nmessage_bytes_max = 5\nbacklog = 0\nworkers = 'two'\ndeflate_level = 3\n\
         origin = ['nonsense']\nallow_any_origin = true\nadmin = '0.0.0.0:1'\n\
         broker = 'http://b'\nlistn = ''\n",
    );
    let (code, lines) = checked(file.path());
    assert_eq!(code, Some(1));
    let numbers: Vec<usize> = lines
        .iter()
        .map(|line| {
            let rest = line.strip_prefix(&format!("longwire: {}:", file.path())).unwrap();
            rest.split(':').next().unwrap().parse().unwrap()
        })
        .collect();
    // Of the two that exclude each other the latter is named.
    assert_eq!(numbers.len(), 10, "{lines:#?}");
    assert!(numbers.is_sorted(), "{lines:#?}");
    let output = run(longwire(&["serve", "--config", file.path()]));
    assert_eq!(output.status.code(), Some(2));
    let said = text(&output).1;
    assert_eq!(said.lines().count(), 5, "all but what only a check finds: {said}");
}

#[test]
fn lc03_file_that_cannot_be_read_is_said() {
    let folder = std::env::temp_dir();
    let noise = File::new("conns_max = 5\n");
    fs::write(noise.path(), b"conns_max = 5\n\n\xff\xfe").unwrap();
    let long = File::new(&"# long\n".repeat(200_000));
    let pipe = File::new("");
    fs::remove_file(pipe.path()).unwrap();
    let made = Command::new("mkfifo").arg(pipe.path()).status();
    assert!(made.unwrap().success());
    for (file, word) in [
        ("/nope/longwire.toml", "No such file"),
        (folder.to_str().unwrap(), "no regular file"),
        ("/dev/zero", "no regular file"),
        // Nobody writes into it, and nobody waits for that.
        (pipe.path(), "no regular file"),
        (long.path(), "longer than 1 MiB"),
        (noise.path(), "line 3 is not UTF-8"),
    ] {
        expect_refusal(longwire(&["config", "check", file]), &[file, word]);
        expect_refusal(longwire(&["serve", "--config", file]), &[file, word]);
    }
    expect_refusal(longwire(&["config", "check"]), &["name the file"]);
    expect_refusal(longwire(&["serve", "--config"]), &["--config"]);
}

#[test]
fn echo_has_a_file_as_well_and_no_keys_of_serve() {
    let file =
        File::new("message_bytes_max = 200\nlisten = '127.0.0.1:0'\nallow_any_origin = true\n");
    let program = Program::start_by(longwire(&["echo", "--config", file.path()]));
    assert!(program.announced("limits").contains("messages of 200 bytes"));
    file.write("publish = 'none'\n");
    let words = [":1: `publish` is a key of `longwire serve` alone"];
    expect_refusal(longwire(&["echo", "--config", file.path()]), &words);
}

/// Asked for help, or for another command, nobody wants to hear of a file.
#[test]
fn help_and_other_commands_read_no_file() {
    for args in
        [&["serve", "--help"][..], &["--version"], &["doctor"], &["config", "print", "--default"]]
    {
        let mut command = longwire(args);
        command.env("LONGWIRE_CONFIG", "/nope/longwire.toml");
        let output = run(command);
        assert_eq!(output.status.code(), Some(0), "{args:?}: {:?}", text(&output));
    }
}
