//! `examples/chat.rs` lets those in a room hear each other, and nobody else.

use crate::client::Client;
use crate::process::Example;

#[test]
fn chat_is_heard_by_all_in_the_room_and_by_nobody_else() {
    let example = Example::start("chat");
    let mut ada = Client::open_at(example.addr, "/lobby");
    assert_eq!(ada.read_text(), "somebody came in", "that is herself");
    let mut grace = Client::open_at(example.addr, "/lobby");
    let mut other = Client::open_at(example.addr, "/kitchen");
    for client in [&mut ada, &mut grace, &mut other] {
        assert_eq!(client.read_text(), "somebody came in");
    }
    for text in ["hello", "is anybody there?"] {
        ada.send_text(text);
        assert_eq!(ada.read_text(), text, "who says it hears it, too");
        assert_eq!(grace.read_text(), text);
    }
    grace.close(1000);
    assert_eq!(ada.read_text(), "somebody left");
    other.echo("only the cook hears this");
}

#[test]
fn chat_refuses_what_is_no_name_of_a_room() {
    let example = Example::start("chat");
    for (path, reason) in [("/", "a topic has a name"), ("/a*", "wildcards")] {
        let mut client = Client::open_at(example.addr, path);
        let (code, said) = client.read_close();
        assert_eq!(code, 1008, "{path}");
        assert!(said.contains(reason), "{path}: {said}");
    }
}
