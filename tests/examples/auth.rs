//! `examples/auth.rs` lets in who shows a token, however it is shown.

use crate::client::{Client, REQUEST};
use crate::process::{Example, request_with};

const ADA_IS_SET: &str = "Set-Cookie: session=ada; HttpOnly; SameSite=Strict";

#[test]
fn auth_answers_the_health_check_without_a_token() {
    let example = Example::start("auth");
    let (head, body) = example.ask("GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    assert_eq!(body, "ok\n");
}

#[test]
fn auth_refuses_who_has_no_token_or_an_unknown_one() {
    let example = Example::start("auth");
    let (head, body) = example.ask(REQUEST);
    assert!(head.starts_with("HTTP/1.1 401 "), "{head}");
    assert!(head.contains("\r\nWWW-Authenticate: Bearer\r\n"), "{head}");
    assert_eq!(body, "a token is needed\n");
    for line in ["Authorization: Bearer eve", "Cookie: session=eve"] {
        let (head, body) = example.ask(&request_with(line));
        assert!(head.starts_with("HTTP/1.1 403 "), "{line}: {head}");
        assert_eq!(body, "unknown token\n");
        assert!(!head.contains("Set-Cookie"), "{head}");
    }
    // What could end a header line of the answer is no token.
    let (head, _) = example.ask(&request_with("Authorization: Bearer ada; Domain=bad.example"));
    assert!(head.starts_with("HTTP/1.1 401 "), "{head}");
}

#[test]
fn auth_greets_who_shows_a_token_in_a_header_or_a_cookie() {
    let example = Example::start("auth");
    for line in ["Authorization: Bearer ada", "Cookie: theme=dark; session=ada"] {
        let mut client = Client::connect(example.addr);
        client.send_raw(request_with(line).as_bytes());
        let head = client.read_head();
        assert!(head.starts_with("HTTP/1.1 101 "), "{line}: {head}");
        assert!(head.lines().any(|line| line == ADA_IS_SET), "{line}: {head}");
        assert_eq!(client.read_text(), "hello, ada");
        client.echo("and then it echoes");
        client.close(1000);
    }
    let mut client = Client::connect(example.addr);
    client.send_raw(request_with("Authorization: Bearer grace").as_bytes());
    client.read_head();
    assert_eq!(client.read_text(), "hello, grace", "not the one before");
}

#[test]
fn auth_serves_others_while_tokens_are_checked() {
    let example = Example::start("auth");
    let mut waiting: Vec<Client> = (0..50)
        .map(|_| {
            let mut client = Client::connect(example.addr);
            client.send_raw(request_with("Cookie: session=ada").as_bytes());
            client
        })
        .collect();
    assert_eq!(example.ask("GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").1, "ok\n");
    for client in &mut waiting {
        assert!(client.read_head().starts_with("HTTP/1.1 101 "));
        assert_eq!(client.read_text(), "hello, ada");
    }
}
