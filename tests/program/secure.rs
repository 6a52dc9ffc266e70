//! The program over TLS: where its certificates come from, how it takes up new ones while it runs,
//! and what it says when they are of no use.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use crate::certificates::{Authority, Issued, VERSIONS};
use crate::client::{Client, REQUEST};
use crate::process::{Program, echo_command, expect_refusal, on_every_backend, wait_until};

/// Names of the servers here.
const NAMES: [&str; 2] = ["localhost", "127.0.0.1"];

/// Believes every server, as one does who clicks a browser's warning away.
#[derive(Debug)]
struct Credulous;

impl ServerCertVerifier for Credulous {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let known = ring::default_provider().signature_verification_algorithms;
        verify_tls12_signature(message, cert, dss, &known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let known = ring::default_provider().signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, &known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        ring::default_provider().signature_verification_algorithms.supported_schemes()
    }
}

/// The path of a file, for a command line.
fn path(file: &Path) -> &str {
    file.to_str().unwrap()
}

/// The flags for this certificate and its key.
fn flags_of(issued: &Issued) -> [&str; 4] {
    ["--tls-cert", path(&issued.certificate_file), "--tls-key", path(&issued.key_file)]
}

/// Who verifies servers by this one certificate.
fn believing(certificate: &CertificateDer<'static>) -> Arc<dyn ServerCertVerifier> {
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone()).unwrap();
    let provider = Arc::new(ring::default_provider());
    WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap()
}

/// An open connection to the server of this name.
fn open_named(addr: SocketAddr, config: &Arc<ClientConfig>, name: &'static str) -> Client {
    let mut client = Client::connect_secure(addr, config, name);
    client.send_raw(REQUEST.as_bytes());
    client.finish_handshake();
    client
}

/// The certificate that a new client is shown. A client of its own, for a session that is resumed
/// shows none.
fn shown(addr: SocketAddr, authority: &Authority) -> CertificateDer<'static> {
    let mut client = Client::open_secure(addr, &authority.client());
    client.echo("whoever you are");
    client.tls().peer_certificates().unwrap()[0].clone()
}

/// The handshake over TLS, or the request after it, comes to nothing.
fn is_refused(mut client: Client) -> bool {
    client.try_send_raw(REQUEST.as_bytes()).is_err()
        || client.try_read(&mut [0; 64]).map_or(true, |bytes| bytes == 0)
}

#[test]
fn self_signed_certificate_serves_the_names_of_this_machine() {
    on_every_backend(|backend| {
        let program = Program::start(&["--backend", backend, "--tls-self-signed"]);
        let url = format!("new WebSocket('wss://{}')", program.addr);
        let announcement = &program.announcement;
        assert!(announcement.last().unwrap().contains(&url), "{announcement:?}");
        assert_eq!(announcement[4], format!("listening on {} (TLS)", program.addr));

        let authority = Authority::new();
        let with = |verifier: Arc<dyn ServerCertVerifier>| {
            authority.client_with(&VERSIONS, None, |config| {
                config.dangerous().set_certificate_verifier(verifier);
            })
        };
        let mut client = open_named(program.addr, &with(Arc::new(Credulous)), "anything.test");
        client.echo("behind the warning");
        let certificate = client.tls().peer_certificates().unwrap()[0].clone();
        for name in NAMES {
            open_named(program.addr, &with(believing(&certificate)), name).echo(name);
        }
        let stranger = Client::connect_secure(program.addr, &authority.client(), "localhost");
        assert!(is_refused(stranger), "nobody vouches for it");
        let mut plain = Client::connect(program.addr);
        plain.send_raw(REQUEST.as_bytes());
        let mut answer = [0; 4];
        let bytes = plain.try_read(&mut answer).unwrap_or(0);
        assert_ne!(&answer[..bytes], b"HTTP", "the port speaks nothing but TLS");
    });
}

#[test]
fn certificates_come_from_files_one_for_each_name() {
    on_every_backend(|backend| {
        let authority = Authority::new();
        let first = authority.issue("first", &NAMES);
        let second = authority.issue("second", &["second.test"]);
        let flags = [&["--backend", backend][..], &flags_of(&first), &flags_of(&second)].concat();
        let program = Program::start(&flags);
        for (name, issued) in [("localhost", &first), ("second.test", &second)] {
            let mut client = open_named(program.addr, &authority.client(), name);
            client.echo(name);
            assert_eq!(client.tls().peer_certificates().unwrap()[0], issued.certificate);
        }
        program.signal(Signal::TERM);
        let (status, _, stderr) = program.wait();
        assert_eq!(status.code(), Some(0), "{stderr}");
    });
}

#[test]
fn hangup_takes_up_new_files_for_those_who_come_then() {
    on_every_backend(|backend| {
        let authority = Authority::new();
        let old = authority.issue("server", &NAMES);
        let flags = [&["--backend", backend, "--workers", "1"][..], &flags_of(&old)].concat();
        let program = Program::start(&flags);
        let mut client = Client::open_secure(program.addr, &authority.client());
        client.echo("before");
        assert_eq!(shown(program.addr, &authority), old.certificate);

        let new = authority.issue("server", &NAMES);
        program.signal(Signal::HUP);
        let line = program.next_line();
        assert!(line.contains("1 certificate, valid until "), "{line}");
        assert_eq!(shown(program.addr, &authority), new.certificate);
        client.echo("who was here before goes on");

        program.signal(Signal::TERM);
        assert_eq!(client.read_close().0, 1012);
        drop(client);
        assert_eq!(program.wait().0.code(), Some(0));
    });
}

#[test]
fn hangup_with_broken_files_leaves_all_as_it_was_and_says_why() {
    on_every_backend(|backend| {
        let authority = Authority::new();
        let old = authority.issue("server", &NAMES);
        let flags = [&["--backend", backend, "--workers", "1"][..], &flags_of(&old)].concat();
        let program = Program::start(&flags);
        let said = || {
            let lines = program.errors().into_iter();
            // The files are watched as well, and what comes of that is logged.
            lines.filter(|line| line.starts_with("longwire: ")).collect::<Vec<String>>()
        };
        let key = fs::read(&old.key_file).unwrap();
        let other = authority.issue("other", &NAMES);
        for (number, (broken, words)) in [
            (Vec::new(), "is empty"),
            (b"-----BEGIN PRIVATE KEY-----\nMIG".to_vec(), "damaged or cut off"),
            (fs::read(&other.key_file).unwrap(), "is not the one of the certificate"),
        ]
        .into_iter()
        .enumerate()
        {
            fs::write(&old.key_file, broken).unwrap();
            program.signal(Signal::HUP);
            let has_said = || said().len() > number;
            wait_until("a line about the broken file", has_said, String::new);
            let line = said().pop().unwrap();
            assert!(line.contains("stay as they are"), "{line}");
            assert!(line.contains(path(&old.key_file)) && line.contains(words), "{line}");
            assert_eq!(shown(program.addr, &authority), old.certificate, "after {words}");
        }
        fs::write(&old.key_file, key).unwrap();
        program.signal(Signal::HUP);
        assert!(program.next_line().contains("1 certificate"), "mended is mended");
        assert_eq!(said().len(), 3, "one line each: {:?}", said());
        program.signal(Signal::TERM);
        assert_eq!(program.wait().0.code(), Some(0), "it went on as if nothing had been");
    });
}

#[test]
fn hangup_without_certificates_is_no_reason_to_stop() {
    on_every_backend(|backend| {
        let program = Program::start(&["--backend", backend]);
        let mut client = Client::open(program.addr);
        program.signal(Signal::HUP);
        assert_eq!(program.next_line(), "there are no certificates to read again");
        client.echo("still here");
    });
}

#[test]
fn clients_show_the_certificate_they_are_required_to() {
    on_every_backend(|backend| {
        let authority = Authority::new();
        let server = authority.issue("server", &NAMES);
        let member = authority.issue("member", &["member.test"]);
        let ca = authority.file();
        let flags = [&["--backend", backend, "--tls-client-ca", path(&ca)], &flags_of(&server)[..]];
        let asking = Program::start(&flags.concat());
        let requiring = Program::start(&[&flags.concat()[..], &["--tls-client-required"]].concat());
        let with = |shown| authority.client_with(&VERSIONS, shown, |_| ());
        let (known, unknown) = (with(Some(&member)), with(None));
        Client::open_secure(requiring.addr, &known).echo("known");
        Client::open_secure(asking.addr, &known).echo("known");
        Client::open_secure(asking.addr, &unknown).echo("not asked twice");
        assert!(is_refused(Client::connect_secure(requiring.addr, &unknown, "localhost")));
    });
}

#[test]
fn silence_instead_of_a_handshake_ends_when_the_flag_says() {
    on_every_backend(|backend| {
        let flags = ["--backend", backend, "--tls-self-signed", "--tls-handshake-timeout", "300ms"];
        let program = Program::start(&flags);
        let began = Instant::now();
        let mut client = Client::connect(program.addr);
        let read = client.try_read(&mut [0; 64]);
        assert!(read.is_err() || read.is_ok_and(|bytes| bytes == 0), "nothing is said to it");
        assert!(began.elapsed() >= Duration::from_millis(300));
        assert!(began.elapsed() < Duration::from_secs(4), "not the default of 5 s");
    });
}

#[test]
fn plain_and_secure_addresses_are_listened_on_at_once() {
    on_every_backend(|backend| {
        let authority = Authority::new();
        let server = authority.issue("server", &NAMES);
        let flags = ["--backend", backend, "--listen", "127.0.0.1:0"];
        let secure = ["--listen-tls", "127.0.0.1:0", "--listen-tls", "[::1]:0"];
        let program = Program::start(&[&flags[..], &secure, &flags_of(&server)].concat());
        let addrs = program.addrs();
        let listening: Vec<String> = addrs
            .iter()
            .enumerate()
            .map(|(at, addr)| format!("listening on {addr}{}", if at < 2 { "" } else { " (TLS)" }))
            .collect();
        assert_eq!(program.announcement[4..8], listening);
        let last = program.announcement.last().unwrap();
        assert!(last.contains(&format!("'ws://{}'", addrs[0])), "{last}");
        let mut clients: Vec<Client> = addrs[..2].iter().map(|addr| Client::open(*addr)).collect();
        let config = authority.client();
        clients.extend(addrs[2..].iter().map(|addr| Client::open_secure(*addr, &config)));
        assert_eq!(clients.len(), 4);
        for client in &mut clients {
            client.echo("all at once");
        }
    });
}

#[test]
fn certificates_that_are_of_no_use_are_said_in_one_line() {
    let authority = Authority::new();
    let [one, other] = [authority.issue("one", &NAMES), authority.issue("other", &NAMES)];
    let (cert, key) = (path(&one.certificate_file), path(&one.key_file));
    let other_key = path(&other.key_file);
    let ca = authority.file();
    let missing = "/nonexistent/longwire.pem";
    let self_signed = "--tls-self-signed";
    for (flags, words) in [
        (&["--tls-cert", cert][..], &["missing --tls-key", "--tls-cert"][..]),
        (&["--tls-key", key], &["missing --tls-cert", "--tls-key"]),
        (&["--tls-cert", cert, "--tls-key", other_key], &[cert, other_key, "belong together"]),
        (&["--tls-cert", key, "--tls-key", cert], &[key, "swapped"]),
        (&["--tls-cert", missing, "--tls-key", key], &[missing, "correct the path"]),
        (&["--tls-cert", cert, "--tls-key", missing], &[missing, "correct the path"]),
        (
            &["--tls-cert", cert, "--tls-key", key, "--tls-cert", cert],
            &["2 of --tls-cert", "1 of --tls-key", "one key for each"],
        ),
        (&["--listen-tls", "127.0.0.1:0"], &["--listen-tls", "--tls-cert", self_signed]),
        (&["--listen-tls", "here", self_signed], &["--listen-tls", "here"]),
        (&[self_signed, "--tls-cert", cert, "--tls-key", key], &[self_signed, "--tls-cert"]),
        (&[self_signed, "--tls-key", key], &[self_signed, "--tls-key"]),
        (&[self_signed, "--tls-client-required"], &["missing --tls-client-ca", "-required"]),
        (&[self_signed, "--tls-client-ca", missing], &[missing, "correct the path"]),
        (&[self_signed, "--tls-client-ca", key], &[key, "certificate"]),
        // Without a certificate nobody would be asked for one.
        (&["--tls-client-ca", path(&ca)], &["--tls-client-ca", path(&ca), self_signed]),
        (&[self_signed, "--tls-handshakes-max", "0"], &["tls_handshakes_max", "at least 1"]),
        (&[self_signed, "--tls-handshake-timeout", "5"], &["--tls-handshake-timeout", "30s"]),
    ] {
        expect_refusal(echo_command(flags), words);
    }
}
