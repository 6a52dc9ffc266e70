//! nginx and HAProxy in front of the program, by the configurations in `contrib/`: TLS ends there, and
//! the program knows the client's address.

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::certificates::{Authority, Issued};
use crate::client::{Client, REQUEST};
use crate::http::get;
use crate::process::{Program, wait_until};
use crate::tools::{Folder, expect_success, text, tool};

/// The site that stands in the configurations.
const SITE: &str = "ws.example.org";
/// A client that is none of the proxies: another address of loopback.
const CLIENT: &str = "127.0.0.77";
/// Addresses of the program in the configurations.
const UPSTREAMS: [&str; 4] = ["127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.0.4"];

/// A proxy as a child process; killed when it is dropped.
struct Proxy {
    child: Child,
    addr: SocketAddr,
}

impl Proxy {
    /// Starts it in the foreground, with its log in the folder, and waits until it listens.
    fn start(program: &Path, args: &[&str], addr: SocketAddr, folder: &Folder) -> Self {
        let path = folder.write("log", "");
        let log = fs::File::create(&path).unwrap();
        let mut command = Command::new(program);
        command.args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let child = command.spawn().unwrap();
        let listens = || TcpStream::connect(addr).is_ok();
        wait_until("the proxy", listens, || fs::read_to_string(&path).unwrap());
        Self { child, addr }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // Not killed: it would leave its workers behind.
        let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        let _ = self.child.wait();
    }
}

/// A configuration of `contrib/` for this test. Each of the places must be in it.
fn fitted(name: &str, places: &[(&str, &str)]) -> String {
    let mut config = text(name);
    for (from, to) in places {
        assert!(config.contains(from), "{name} has no `{from}`");
        config = config.replace(from, to);
    }
    config
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// The flags in the comment at the head of a configuration, with other ports.
fn flags_of(name: &str, port: u16) -> Vec<String> {
    let head = text(name);
    let lines = head.lines().skip_while(|line| !line.starts_with("#   longwire serve "));
    let lines = lines.take_while(|line| line.starts_with("#   "));
    let words: Vec<String> = lines
        .flat_map(|line| line[1..].trim_end_matches('\\').split_whitespace().map(str::to_owned))
        .collect();
    assert_eq!(words[..2], ["longwire", "serve"], "{name}");
    let mut flags =
        vec!["--workers".to_owned(), "2".to_owned(), "--drain-time".into(), "1s".into()];
    flags.extend(words[2..].iter().map(|word| word.replace(":9001", &format!(":{port}"))));
    flags
}

/// The program, started as the head of a configuration says.
fn behind(name: &str) -> (Program, u16) {
    let port = free_port();
    let mut flags = flags_of(name, port);
    // Each test has an administration port of its own.
    if let Some(at) = flags.iter().position(|flag| flag == "--admin") {
        flags.drain(at..at + 2);
    }
    let mut command = crate::process::longwire(&["serve", "--admin", "127.0.0.1:0"]);
    command.args(flags);
    let program = Program::start_by(command);
    let expected: Vec<SocketAddr> =
        UPSTREAMS.iter().map(|ip| format!("{ip}:{port}").parse().unwrap()).collect();
    assert_eq!(program.addrs(), expected, "{name}");
    (program, port)
}

/// A client at another address than the proxies opens a WebSocket, which works.
fn open_through(proxy: &Proxy, authority: &Authority) -> Client {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    let from: SocketAddr = format!("{CLIENT}:0").parse().unwrap();
    socket.bind(&from.into()).unwrap();
    socket.connect(&proxy.addr.into()).unwrap();
    let mut client = Client::over(socket.into());
    client.begin_tls(&authority.client(), SITE);
    let request = REQUEST.replacen("GET / ", "GET /echo ", 1);
    // A site that the program lets in, and an address that the client makes up.
    let lies = format!("Origin: https://{SITE}\r\nX-Forwarded-For: 192.0.2.66\r\n\r\n");
    client.send_raw(request.replacen("\r\n\r\n", &format!("\r\n{lies}"), 1).as_bytes());
    // nginx adds headers of its own.
    let head = client.read_head();
    let accepted = "sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo=";
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    assert!(head.to_ascii_lowercase().contains(accepted), "{head}");
    for text in ["hello", &"x".repeat(50_000)] {
        client.echo(text);
    }
    client
}

/// Clients come and go through the proxy, and the program knows whose they are.
fn check(program: &Program, proxy: &Proxy, authority: &Authority) {
    let clients: Vec<Client> = (0..8).map(|_| open_through(proxy, authority)).collect();
    let conns = get(program.admin(), "/connections").json();
    let conns = conns["connections"].as_array().or_else(|| conns.as_array()).unwrap().clone();
    assert_eq!(conns.len(), clients.len(), "{conns:?}");
    for conn in conns {
        assert_eq!(conn["address"], CLIENT, "{conn}");
    }
    for client in clients {
        client.close(1000);
    }
    // An answer of the program to what is no upgrade.
    let mut plain = Client::connect_secure(proxy.addr, &authority.client(), SITE);
    let request = format!("GET /healthz HTTP/1.1\r\nHost: {SITE}\r\nConnection: close\r\n\r\n");
    plain.send_raw(request.as_bytes());
    let head = plain.read_head();
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    // What closes the program reaches the clients as it is.
    let mut last = open_through(proxy, authority);
    program.signal(Signal::TERM);
    assert_eq!(last.read_close().0, 1012);
}

/// Certificate of the site, and a file with its key behind it.
fn site() -> (Authority, Issued, String) {
    let authority = Authority::new();
    let issued = authority.issue("site", &[SITE]);
    let both =
        [&issued.certificate_file, &issued.key_file].map(|file| fs::read_to_string(file).unwrap());
    let both = both.concat();
    (authority, issued, both)
}

#[test]
fn px05_nginx_tells_the_clients_address_in_a_header() {
    let Some(nginx) = tool("nginx") else { return };
    let (authority, issued, _) = site();
    let (program, port) = behind("contrib/nginx.conf");
    let folder = Folder::new();
    let addr: SocketAddr = format!("127.0.0.1:{}", free_port()).parse().unwrap();
    let path = |name: &str| folder.0.join(name).display().to_string();
    let config = fitted(
        "contrib/nginx.conf",
        &[
            ("listen 443 ssl", &format!("listen {addr} ssl")),
            (":9001", &format!(":{port}")),
            ("/etc/ssl/certs/ws.example.org.pem", &issued.certificate_file.display().to_string()),
            ("/etc/ssl/private/ws.example.org.key", &issued.key_file.display().to_string()),
            ("/var/log/nginx/error.log", &path("error.log")),
            ("/run/nginx.pid", &path("nginx.pid")),
            // As many as this machine has descriptors for.
            ("worker_rlimit_nofile 262144;", "worker_rlimit_nofile 1024;"),
            ("worker_connections 131072;", "worker_connections 512;"),
        ],
    );
    let config = folder.write("nginx.conf", &config);
    let prefix = format!("{}/", folder.0.display());
    let args = ["-p", &prefix, "-c", config.to_str().unwrap(), "-e", &path("error.log")];
    let told = expect_success(&nginx, &[&args[..], &["-t"]].concat());
    assert!(!told.contains("[warn]"), "{told}");
    let proxy = Proxy::start(&nginx, &[&args[..], &["-g", "daemon off;"]].concat(), addr, &folder);
    check(&program, &proxy, &authority);
}

#[test]
fn haproxy_tells_the_clients_address_by_the_proxy_protocol() {
    let Some(haproxy) = tool("haproxy") else { return };
    let (authority, _, both) = site();
    let (program, port) = behind("contrib/haproxy.cfg");
    let folder = Folder::new();
    let pem = folder.write("site.pem", &both);
    let addr: SocketAddr = format!("127.0.0.1:{}", free_port()).parse().unwrap();
    let config = fitted(
        "contrib/haproxy.cfg",
        &[
            ("bind :443", &format!("bind {addr}")),
            (":9001", &format!(":{port}")),
            ("port 9002", &format!("port {}", program.admin().port())),
            ("/etc/haproxy/ws.example.org.pem", pem.to_str().unwrap()),
            // As many as this machine has descriptors for.
            ("maxconn 200000", "maxconn 200"),
        ],
    );
    let config = folder.write("haproxy.cfg", &config);
    let args = ["-f", config.to_str().unwrap()];
    let told = expect_success(&haproxy, &[&args[..], &["-c"]].concat());
    assert!(!told.contains("WARNING"), "{told}");
    let proxy = Proxy::start(&haproxy, &[&args[..], &["-db"]].concat(), addr, &folder);
    check(&program, &proxy, &authority);
}

#[test]
fn timeouts_of_proxies_are_longer_than_two_pings() {
    let help = crate::tools::said(&["serve", "--help"]);
    let (_, rest) = help.split_once("--ping-interval").unwrap();
    let (_, rest) = rest.split_once("[default: ").unwrap();
    let ping: f64 = rest.split('s').next().unwrap().parse().unwrap();
    // A ping is up to a fifth late; one may be lost.
    let silence = 2.0 * 1.2 * ping;
    for (name, settings) in [
        ("contrib/nginx.conf", &["proxy_read_timeout", "proxy_send_timeout"][..]),
        ("contrib/haproxy.cfg", &["timeout tunnel"]),
    ] {
        for setting in settings {
            let config = text(name);
            let (_, value) = config.split_once(setting).unwrap();
            let seconds: f64 = value.trim_start().split('s').next().unwrap().parse().unwrap();
            assert!(seconds > silence, "{name}: {setting} {seconds}");
        }
    }
}
