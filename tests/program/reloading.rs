//! SIGHUP with a configuration file: what changes at once, what is named because it cannot, and that
//! a file with a fault changes nothing.

use std::process::Command;

use rustix::process::Signal;

use crate::certificates::Authority;
use crate::client::{Client, REQUEST};
use crate::config::File;
use crate::http::{get, post};
use crate::process::{Program, longwire, on_every_backend, wait_until};

/// What all files of these tests begin with.
const BASE: &str =
    "listen = '127.0.0.1:0'\nadmin = '127.0.0.1:0'\nworkers = 2\ndrain_time = '0s'\n";

fn command(file: &File, flags: &[&str]) -> Command {
    let mut command = longwire(&["serve", "--config", file.path()]);
    command.args(flags);
    command
}

/// Signals, and waits for a line with this word; all lines that were not there before.
fn reload(program: &Program, word: &str) -> Vec<String> {
    let before = program.errors().len();
    program.signal(Signal::HUP);
    let new = || program.errors().split_off(before);
    wait_until(word, || new().iter().any(|line| line.contains(word)), || format!("{:?}", new()));
    new()
}

fn status_of(program: &Program, origin: &str) -> String {
    let mut client = Client::connect(program.addr);
    let request = REQUEST.replacen("GET / ", "GET /echo ", 1);
    let origin = format!("Upgrade: websocket\r\nOrigin: {origin}");
    client.send_raw(request.replacen("Upgrade: websocket", &origin, 1).as_bytes());
    client.read_head().split(' ').nth(1).unwrap().to_owned()
}

#[test]
fn limits_and_origins_change_for_connections_that_are_open_and_those_that_come() {
    on_every_backend(|backend| {
        let file = File::new(&format!("{BASE}origin = 'https://a.example'\n"));
        let program = Program::start_by(command(&file, &["--backend", backend]));
        // Of both workers, most likely.
        let mut clients: Vec<Client> =
            (0..8).map(|_| Client::open_at(program.addr, "/echo")).collect();
        for client in &mut clients {
            client.echo(&"x".repeat(60_000));
        }
        assert_eq!(status_of(&program, "https://a.example"), "101");
        assert_eq!(status_of(&program, "https://b.example"), "403");
        file.write(&format!("{BASE}origin = 'https://b.example'\nmessage_bytes_max = '1K'\n"));
        let lines = reload(&program, "message_bytes_max 64K -> 1K");
        let line = lines.iter().find(|line| line.contains("message_bytes_max")).unwrap();
        assert!(line.contains("INFO"), "{line}");
        assert!(line.contains("origin https://a.example -> https://b.example"), "{line}");
        assert_eq!(lines.len(), 1, "one line, and none of what needs a restart: {lines:?}");
        for client in &mut clients {
            client.echo(&"x".repeat(1024));
            client.send_text(&"x".repeat(1025));
            assert_eq!(client.read_close().0, 1009);
        }
        assert_eq!(status_of(&program, "https://a.example"), "403");
        assert_eq!(status_of(&program, "https://b.example"), "101");
        let stats = get(program.admin(), "/stats.json").json();
        assert_eq!(stats["message_bytes_max"], 1024);
        let too_large = post(program.admin(), "/topics/a", &[], &[b'x'; 1025]);
        assert_eq!(too_large.status, 413, "the same on the other port");
        file.write(BASE);
        reload(&program, "message_bytes_max 1K -> 64K");
        Client::open_at(program.addr, "/echo").echo(&"x".repeat(60_000));
        program.signal(Signal::TERM);
        assert_eq!(program.wait().0.code(), Some(0));
    });
}

#[test]
fn timeouts_and_connections_change_for_those_that_are_there() {
    on_every_backend(|backend| {
        let file = File::new(&format!("{BASE}ping_interval = 'none'\n"));
        let program = Program::start_by(command(&file, &["--backend", backend]));
        let mut clients: Vec<Client> =
            (0..4).map(|_| Client::open_at(program.addr, "/echo")).collect();
        file.write(&format!("{BASE}ping_interval = '200ms'\nconns_max = 2\n"));
        reload(&program, "ping_interval none -> 200ms");
        for client in &mut clients {
            assert_eq!(client.read_frame().opcode, crate::client::PING);
        }
        assert_eq!(status_of(&program, "https://a"), "503", "there are more than two already");
        drop(clients);
        wait_until(
            "the connections to end",
            || status_of(&program, "https://a") == "101",
            || "still full".to_owned(),
        );
    });
}

#[test]
fn log_level_changes() {
    let file = File::new(&format!("{BASE}log = 'info'\nallow_any_origin = true\n"));
    let program = Program::start_by(command(&file, &["--workers", "1"]));
    let ends = |program: &Program| {
        program.errors().iter().filter(|line| line.contains("by=\"peer\"")).count()
    };
    Client::open_at(program.addr, "/echo").close(1000);
    file.write(&format!("{BASE}log = 'info,closes=debug'\nallow_any_origin = true\n"));
    reload(&program, "log info -> info,closes=debug");
    assert_eq!(ends(&program), 0);
    Client::open_at(program.addr, "/echo").close(1000);
    let said = || format!("{:?}", program.errors());
    wait_until("the line of an end", || ends(&program) == 1, said);
    // Nothing is logged of this reload: the level holds for its own lines.
    let quiet = "log = 'error'\nallow_any_origin = true\nmessage_bytes_max = 500\n";
    file.write(&(BASE.to_owned() + quiet));
    program.signal(Signal::HUP);
    let is_quiet = || get(program.admin(), "/stats.json").json()["message_bytes_max"] == 500;
    wait_until("the limit that came with it", is_quiet, said);
    file.write("nonsense");
    reload(&program, "the configuration stays as it is");
    Client::open_at(program.addr, "/echo").close(1000);
    Client::open_at(program.addr, "/echo").echo("after its end was not logged");
    assert_eq!(ends(&program), 1, "{}", said());
}

/// Row LC03: whatever is wrong, the old configuration goes on, and each fault is logged.
#[test]
fn lc03_bad_file_changes_nothing_and_is_logged() {
    on_every_backend(|backend| {
        let good = format!("{BASE}message_bytes_max = 1000\norigin = 'https://a.example'\n");
        let file = File::new(&good);
        let program = Program::start_by(command(&file, &["--backend", backend]));
        let mut client = Client::open_at(program.addr, "/echo");
        for (bad, words) in [
            ("message_bytes_max = 2000\nconn_max = 5", &["conn_max", "conns_max"][..]),
            ("message_bytes_max = 2000\nlog = 'debug'\nbacklog = 0", &[":7: backlog is 0"]),
            ("message_bytes_max = 2000\nsend_bytes_max = 1", &[":6: send_bytes_max is 1"]),
            ("message_bytes_max = 2000\nping_interval = 5", &[":6: ping_interval: give"]),
            ("message_bytes_max = 2000\norigin = 'x'", &[":6: `x` is not an origin"]),
            ("message_bytes_max = 2000\nlog = '=='", &[":6: log: give error"]),
            ("message_bytes_max = 2000\nbroker = 'x'", &[":6: --broker: a broker is"]),
            ("message_bytes_max = 2000\nadmin_token = 'a b'", &[":6: ", "visible ASCII"]),
            ("message_bytes_max = 2000\nlatest = ['a', 'a']", &[":6: give `a` to --latest"]),
            ("message_bytes_max = 2000\ntrusted_proxy = 'x'", &[":6: `x`"]),
            ("message_bytes_max = 2000\nconns_max = 1_000_000_000", &["descriptor limit"]),
            ("message_bytes_max = 2000\n[limits]", &["is a table"]),
            ("message_bytes_max = ", &[":5: column"]),
            ("a = 1\nb = 2\nc = 3", &[":5: unknown key `a`", ":6: unknown key `b`", ":7: "]),
        ] {
            file.write(&format!("{BASE}{bad}\n"));
            let lines = reload(&program, words[words.len() - 1]).join("\n");
            for word in words {
                assert!(lines.contains(word), "{bad}: {word} is not in {lines}");
            }
            assert!(lines.contains("ERROR") && lines.contains("stays as it is"), "{lines}");
            assert!(lines.contains(file.path()), "{lines}");
            client.echo(&"x".repeat(1000));
            let mut large = Client::open_at(program.addr, "/echo");
            large.send_text(&"x".repeat(1001));
            assert_eq!(large.read_close().0, 1009, "{bad}");
            assert_eq!(status_of(&program, "https://b.example"), "403", "{bad}");
        }
        std::fs::remove_file(file.path()).unwrap();
        reload(&program, "No such file");
        client.echo("all is as it was");
        file.write(&good);
        reload(&program, "nothing has changed");
        client.echo("and goes on");
    });
}

#[test]
fn what_needs_a_restart_is_named_until_there_is_one() {
    let file = File::new(&format!("{BASE}backlog = 10\nmessage_timeout = '9s'\n"));
    let program = Program::start_by(command(&file, &["--conns-max", "100"]));
    file.write(&format!(
        "{BASE}backlog = 20\nmessage_timeout = '8s'\nconns_max = 50\npublish = 'none'\n"
    ));
    for round in 0..2 {
        let lines = reload(&program, "only a restart, or an upgrade, changes").join("\n");
        assert!(
            lines.contains("backlog 10 -> 20") && lines.contains("publish any -> none"),
            "{lines}"
        );
        assert_eq!(lines.contains("message_timeout 9s -> 8s"), round == 0, "{lines}");
        assert!(!lines.contains("nothing has changed"), "{lines}");
        assert!(!lines.contains("conns_max"), "the flag wins over the file: {lines}");
    }
    Client::open_at(program.addr, "/topics/a").echo("clients may still publish");
    file.write(&format!("{BASE}backlog = 10\nmessage_timeout = '8s'\n"));
    let lines = reload(&program, "nothing has changed").join("\n");
    assert!(!lines.contains("restart"), "{lines}");
}

/// What a running server takes up; all other keys are named as needing a restart.
const LIVE: [&str; 34] = [
    "conns_max",
    "handshakes_max",
    "handshakes_per_second",
    "message_bytes_max",
    "frame_bytes_max",
    "request_line_bytes_max",
    "head_bytes_max",
    "header_count_max",
    "empty_fragments_max",
    "control_frames_per_second",
    "send_high_water_bytes",
    "send_bytes_max",
    "handshake_timeout",
    "ping_interval",
    "pong_timeout",
    "idle_timeout",
    "message_timeout",
    "write_stall_timeout",
    "close_timeout",
    "drain_time",
    "stop_timeout",
    "stuck_abort",
    "tls_handshakes_max",
    "tls_handshake_timeout",
    "origin",
    "require_origin",
    "overflow",
    "messages_per_second",
    "bytes_per_second",
    "rate_mode",
    "lifetime_max",
    "memory_bytes_max",
    "log",
    "conns_per_address_max",
];

/// Every key gets another value at once: none may be taken up in silence, or forgotten.
#[test]
fn every_key_is_either_taken_up_or_named() {
    let authority = Authority::new();
    let issued = authority.issue("server", &["localhost"]);
    let (cert, key) = (issued.certificate_file.display(), issued.key_file.display());
    let file =
        File::new("listen = '127.0.0.1:0'\nadmin = '127.0.0.1:0'\nconns_per_address_max = 500\n");
    let program = Program::start_by(command(&file, &[]));
    let authority_file = authority.file();
    let all = format!(
        "listen = '127.0.0.1:1'\nunix_mode = 600\nbackend = 'epoll'\nworkers = 1\ncores = '0'\n\
         direct_descriptors = true\nbacklog = 9\nconns_max = 9\nhandshakes_max = 9\n\
         handshakes_per_second = 900\nmessage_bytes_max = 900\nframe_bytes_max = 800\n\
         request_line_bytes_max = 900\nhead_bytes_max = 900\nheader_count_max = 9\n\
         empty_fragments_max = 9\ncontrol_frames_per_second = 9\nsend_high_water_bytes = 900\n\
         send_bytes_max = 9000\nspare_bytes_max = 9\nreceive_blocks_max = 9\n\
         handshake_timeout = '9s'\nping_interval = '9s'\npong_timeout = '9s'\nidle_timeout = '9m'\n\
         message_timeout = '9s'\nwrite_stall_timeout = '9s'\nclose_timeout = '9s'\n\
         drain_time = '0s'\nstop_timeout = '9s'\nstuck_abort = '9m'\ntls_cert = '{cert}'\n\
         tls_key = '{key}'\nlisten_tls = '127.0.0.1:2'\ntls_client_ca = '{ca}'\n\
         tls_client_required = true\ntls_handshakes_max = 9\ntls_handshake_timeout = '9s'\n\
         origin = 'https://a'\nrequire_origin = true\nprotocol = 'a'\nconns_per_address_max = 9\n\
         proxy_protocol = true\nforwarded_header = 'forwarded'\ntrusted_proxy = '10.0.0.0/8'\n\
         deflate = true\ndeflate_takeover = true\ndeflate_level = 9\ndeflate_window_bits = 9\n\
         deflate_bytes_min = 9\noverflow = 'drop'\nmessages_per_second = 900\n\
         bytes_per_second = 9000\nrate_mode = 'throttle'\nlifetime_max = '9h'\n\
         memory_bytes_max = '900M'\npublish = 'none'\nlatest = 'a'\ndrop_oldest = 'b=9'\n\
         history = 'c=9'\ntopics_max = 9\nsubscriptions_max = 9\ntopic_bytes_max = 9\n\
         inbox_orders_max = 9\ninbox_bytes_max = 9\nbroker = 'tls://b.example'\nbroker_ca = '{ca}'\n\
         broker_prefix = 'nine'\nbroker_queue_bytes_max = '9M'\nbroker_retry_max = '9s'\n\
         admin = '127.0.0.1:3'\nadmin_token = 'nine'\nadmin_host = 'nine.example'\n\
         closes_kept = 9\nlog = 'debug'\nlog_format = 'json'\n",
        ca = authority_file.display(),
    );
    file.write(&all);
    let lines = reload(&program, "only a restart, or an upgrade, changes");
    let of = |word: &str| lines.iter().find(|line| line.contains(word)).unwrap().as_str();
    let fixed = of("only a restart, or an upgrade, changes");
    let live = of("message_bytes_max 64K -> 900");
    let named = |line: &str, key: &str| line.contains(&format!(" {key} "));
    // These two exclude others here.
    let absent = ["tls_self_signed", "allow_any_origin"];
    let keys: Vec<&str> = all.lines().filter_map(|line| line.split(' ').next()).collect();
    let printed = crate::process::run(longwire(&["config", "print", "--default"]));
    let printed = String::from_utf8(printed.stdout).unwrap();
    let known = printed.lines().filter_map(|line| line.strip_prefix('#')?.split_once(" = "));
    let known: Vec<&str> = known.map(|(key, _)| key).filter(|key| !key.contains(' ')).collect();
    for key in known {
        if absent.contains(&key) {
            continue;
        }
        assert!(keys.contains(&key), "{key} is a new key: give it another value here");
        let is_live = LIVE.contains(&key);
        assert_eq!((named(live, key), named(fixed, key)), (is_live, !is_live), "{key}");
    }
    assert!(fixed.contains("admin_token default -> (hidden)"), "{fixed}");
    // It still is what it was.
    assert_eq!(get(program.admin(), "/healthz").status, 200);
}

#[test]
fn variables_stay_over_a_file_that_is_read_again() {
    let file = File::new(BASE);
    let mut start = command(&file, &[]);
    start.env("LONGWIRE_MESSAGE_BYTES_MAX", "500");
    let program = Program::start_by(start);
    file.write(&format!("{BASE}message_bytes_max = 900\npong_timeout = '9s'\n"));
    let lines = reload(&program, "pong_timeout").join("\n");
    assert!(!lines.contains("message_bytes_max"), "{lines}");
    let mut client = Client::open_at(program.addr, "/echo");
    client.send_text(&"x".repeat(501));
    assert_eq!(client.read_close().0, 1009);
}
