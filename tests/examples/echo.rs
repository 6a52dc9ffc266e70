//! `examples/echo.rs` counts what it sends back.

use crate::client::Client;
use crate::process::Example;

#[test]
fn echo_counts_the_messages_of_each_connection() {
    let example = Example::start("echo");
    let mut client = Client::open_at(example.addr, "/a/path");
    let line = example.next_line();
    let (id, rest) = line.split_once(" asks for ").unwrap_or_else(|| panic!("{line}"));
    assert_eq!(rest, "/a/path; 1 open on this core");
    for text in ["one", "two", "three"] {
        client.echo(text);
    }
    client.close(1000);
    assert_eq!(example.next_line(), format!("{id} left with 1000 after 3 messages"));
}
