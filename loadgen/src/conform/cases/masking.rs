//! Section 25: what every frame of a client must have, a mask and a length in its shortest form.

use super::List;
use crate::conform::case::{
    Closing, Event, Grade, Outcome, Pace, Payload, Session, Step, close_payload, plain, pong, text,
};
use crate::conform::frame::{BINARY, CLOSE, CONTINUATION, Head, LengthForm, Mask, PING, TEXT};

const HELLO: &[u8] = b"Hello, world!";

pub(super) fn add(list: &mut List) {
    add_masks(list);
    add_lengths(list);
    // RFC 3629 §6: nothing says that a byte order mark may be lost.
    let marked = "\u{feff}marked".as_bytes();
    let session = Session::echo(vec![plain(TEXT, marked)], vec![text(marked)]);
    list.session(&[25, 3, 1], "text with a byte order mark", session);
    let every: Vec<u8> = (0..=u8::MAX).collect();
    let echo = Event::Message { binary: true, payload: Payload::new(&every) };
    let session = Session::echo(vec![plain(BINARY, &every)], vec![echo]);
    list.session(&[25, 3, 2], "binary with every byte there is", session);
}

fn step(head: Head, payload: &[u8]) -> Step {
    Step::Frame(head, Payload::new(payload), Pace::Together)
}

fn add_masks(list: &mut List) {
    // RFC 6455 §5.1: the server MUST close the connection.
    let bare = |opcode| Head { mask: Mask::None, ..Head::of(opcode) };
    let unmasked = [
        ("text", TEXT, HELLO.to_vec()),
        ("binary", BINARY, HELLO.to_vec()),
        ("ping", PING, b"ping".to_vec()),
        ("Close frame", CLOSE, close_payload(1000, b"")),
        ("text without payload", TEXT, Vec::new()),
    ];
    for (number, (name, opcode, payload)) in (1..).zip(unmasked) {
        let session = Session::protocol_error(vec![step(bare(opcode), &payload)], vec![]);
        list.session(&[25, 1, number], format!("{name}, not masked"), session);
    }
    let steps = vec![
        step(Head { fin: false, ..Head::of(TEXT) }, b"masked, "),
        step(bare(CONTINUATION), b"not masked"),
    ];
    let session = Session::protocol_error(steps, vec![]);
    list.session(&[25, 1, 6], "text in two fragments, only the first masked", session);
    for (number, key) in (7..).zip([[0; 4], [0xff; 4], [0, 0, 0, 1]]) {
        let head = Head { mask: Mask::Key(key), ..Head::of(TEXT) };
        let session = Session::echo(vec![step(head, HELLO)], vec![text(HELLO)]);
        let title = format!("text masked with 0x{:08x}", u32::from_be_bytes(key));
        list.session(&[25, 1, number], title, session);
    }
}

fn add_lengths(list: &mut List) {
    let forms = [
        ("13 bytes, length in 16 bits", 13, LengthForm::Two),
        ("125 bytes, length in 16 bits", 125, LengthForm::Two),
        ("13 bytes, length in 64 bits", 13, LengthForm::Eight),
        ("65,535 bytes, length in 64 bits", 65_535, LengthForm::Eight),
    ];
    for (number, (title, bytes, form)) in (1..).zip(forms) {
        let payload = Payload::repeated(b"*", bytes);
        let head = Head { form, ..Head::of(TEXT) };
        let steps = vec![Step::Frame(head, payload.clone(), Pace::Together)];
        let echo = Event::Message { binary: false, payload };
        let session = or_lenient(Session::protocol_error(steps, vec![]), echo);
        list.session(&[25, 2, number], format!("text of {title}"), session);
    }
    for (number, bytes) in (5..).zip([1 << 63, u64::MAX]) {
        let head = Head { form: LengthForm::Lie(bytes), ..Head::of(BINARY) };
        let mut session = Session::protocol_error(vec![step(head, HELLO)], vec![]);
        session.outcomes[0].closing.codes = vec![1002, 1009];
        let title = format!("binary with the length 0x{bytes:x}, whose first bit must be 0");
        list.session(&[25, 2, number], title, session);
    }
    let head = Head { form: LengthForm::Two, ..Head::of(PING) };
    let session = Session::protocol_error(vec![step(head, b"ping")], vec![]);
    let session = or_lenient(session, pong(b"ping"));
    list.session(&[25, 2, 7], "a ping of 4 bytes, length in 16 bits", session);
}

/// RFC 6455 §5.2 forbids the sender to write a longer length than it needs, but does not tell the
/// receiver to notice; one that goes on as if nothing were wrong is lenient.
fn or_lenient(mut session: Session, answer: Event) -> Session {
    let closing = Closing::ours();
    session.outcomes.push(Outcome { grade: Grade::NonStrict, events: vec![answer], closing });
    session
}
