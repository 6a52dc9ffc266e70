//! `examples/bridge.rs` answers when the answer is there.

use crate::client::{BINARY, Client};
use crate::process::Example;

#[test]
fn bridge_answers_each_question_when_its_answer_has_come() {
    let example = Example::start("bridge");
    let mut client = Client::open_at(example.addr, "/");
    client.send_text("6 * 7");
    client.send_text("1 + 1");
    assert_eq!(client.read_text(), "2", "the easy one is not kept waiting");
    assert_eq!(client.read_text(), "42");
    client.send_text("what?");
    assert_eq!(client.read_text(), "ask for a sum or a product, such as 6 * 7");
    client.send_frame(true, BINARY, b"1 + 1");
    assert_eq!(client.read_text(), "questions are text");
    client.close(1000);
}

#[test]
fn bridge_takes_some_questions_at_a_time_and_survives_those_who_leave() {
    let example = Example::start("bridge");
    for _ in 0..20 {
        let mut gone = Client::open_at(example.addr, "/");
        gone.send_text("6 * 7");
        gone.reset();
    }
    let mut client = Client::open_at(example.addr, "/");
    for _ in 0..20 {
        client.send_text("6 * 7");
    }
    let answers: Vec<String> = (0..20).map(|_| client.read_text()).collect();
    let count = |text: &str| answers.iter().filter(|answer| *answer == text).count();
    assert_eq!((count("42"), count("one question after the other, please")), (16, 4));
}
