//! Section 27: compressed messages on the wire, right in every form that RFC 7692 allows, and wrong in
//! their frames, in their data, and in their size.
//!
//! All is made before the connection is opened: no message refers to one before it, so that it is right
//! whatever was agreed on about contexts.

use super::List;
use crate::conform::case::{
    Closing, Event, Grade, Pace, Payload, Session, Step, close_payload, empty_ping, plain, pong,
    text,
};
use crate::conform::deflate::blocks::Blocks;
use crate::conform::deflate::{NAME, deflated};
use crate::conform::frame::{BINARY, CLOSE, CONTINUATION, Head, PING, PONG, TEXT};

const HELLO: &[u8] = b"Hello";
/// RFC 6455 and 7692 name no code for data that is no deflate. It is of a wrong type (1007); some call
/// it a protocol error.
const BAD_DATA: [u16; 2] = [1007, 1002];
const BOMB_BYTES: usize = 64 << 20;

pub(super) fn add(list: &mut List) {
    add_right(list);
    add_fragments(list);
    add_reserved_bits(list);
    add_blocks(list);
    add_corrupt(list);
    add_text(list);
    add_bombs(list);
}

/// A frame with these reserved bits: 4 is RSV1.
fn reserved(rsv: u8, opcode: u8, payload: &[u8]) -> Step {
    Step::Frame(Head { rsv, ..Head::of(opcode) }, Payload::new(payload), Pace::Together)
}

/// A whole compressed message.
fn compressed(opcode: u8, payload: &[u8]) -> Step {
    reserved(4, opcode, payload)
}

/// A frame that is not the last of its message.
fn open(rsv: u8, opcode: u8, payload: &[u8]) -> Step {
    let head = Head { fin: false, rsv, ..Head::of(opcode) };
    Step::Frame(head, Payload::new(payload), Pace::Together)
}

fn binary(payload: &[u8]) -> Event {
    Event::Message { binary: true, payload: Payload::new(payload) }
}

/// A compressed text in frames of this many bytes.
fn in_frames(payload: &[u8], bytes: usize) -> Vec<Step> {
    let last = payload.len().div_ceil(bytes) - 1;
    let frame = |(index, part)| {
        let (opcode, rsv) = if index == 0 { (TEXT, 4) } else { (CONTINUATION, 0) };
        let head = Head { fin: index == last, rsv, ..Head::of(opcode) };
        Step::Frame(head, Payload::new(part), Pace::Together)
    };
    payload.chunks(bytes).enumerate().map(frame).collect()
}

/// Text that shrinks, of about 2 KiB.
fn long() -> Vec<u8> {
    (0..100).flat_map(|number| format!("line {number} of many; ").into_bytes()).collect()
}

/// Cases of one group, numbered from 1.
struct Group<'a> {
    list: &'a mut List,
    group: u16,
    number: u16,
}

impl<'a> Group<'a> {
    fn new(list: &'a mut List, group: u16) -> Self {
        Self { list, group, number: 0 }
    }

    /// A case where permessage-deflate is agreed on.
    fn add(&mut self, title: &str, session: Session) {
        self.bare(title, session.offering(NAME));
    }

    /// A case where nothing is.
    fn bare(&mut self, title: &str, session: Session) {
        self.number += 1;
        self.list.session(&[27, self.group, self.number], title, session);
    }

    /// The steps come back as these events.
    fn echo(&mut self, title: &str, steps: Vec<Step>, events: Vec<Event>) {
        self.add(title, Session::echo(steps, events));
    }

    /// One compressed text comes back as this one.
    fn text(&mut self, title: &str, payload: &[u8], message: &[u8]) {
        self.echo(title, vec![compressed(TEXT, payload)], vec![text(message)]);
    }

    /// Data that must fail the connection.
    fn corrupt(&mut self, title: &str, payload: &[u8]) {
        let steps = vec![compressed(BINARY, payload)];
        self.add(title, Session::failure(steps, vec![], &BAD_DATA));
    }
}

fn add_right(list: &mut List) {
    let mut group = Group::new(list, 1);
    let long = long();
    let every: Vec<u8> = (0..=u8::MAX).collect();
    group.text("a compressed text", &deflated(HELLO), HELLO);
    group.text("a compressed text of 2 KiB", &deflated(&long), &long);
    let steps = vec![compressed(BINARY, &deflated(&every))];
    group.echo("compressed binary with every byte there is", steps, vec![binary(&every)]);
    group.text("one empty block, which is an empty text", &[0], b"");
    group.echo("the same as binary", vec![compressed(BINARY, &[0])], vec![binary(b"")]);
    // RFC 7692 §7.2.3.6 has a sender write one byte. Taken by its letter, nothing is half a block.
    let steps = vec![compressed(TEXT, b""), compressed(TEXT, &deflated(HELLO))];
    let session = Session::echo(steps, vec![text(b""), text(HELLO)])
        .or(Grade::Ok, vec![], Closing::failed_with(&BAD_DATA))
        .or(Grade::Ok, vec![text(b"")], Closing::failed_with(&BAD_DATA));
    group.add("a compressed text without payload, then one with some", session);
    group.echo("a text that is not compressed", vec![plain(TEXT, HELLO)], vec![text(HELLO)]);
    group.echo("an empty text that is not compressed", vec![plain(TEXT, b"")], vec![text(b"")]);
    let steps = vec![
        compressed(TEXT, &deflated(&long)),
        plain(TEXT, HELLO),
        compressed(TEXT, &deflated(HELLO)),
        plain(BINARY, &every),
        compressed(BINARY, &deflated(&every)),
    ];
    let events = vec![text(&long), text(HELLO), text(HELLO), binary(&every), binary(&every)];
    group.echo("compressed and plain messages in turns", steps, events);
    let steps = (0..100).map(|_| compressed(TEXT, &deflated(HELLO))).collect();
    group.echo("100 compressed texts at once", steps, vec![text(HELLO); 100]);
    let steps = vec![compressed(TEXT, &deflated(HELLO)), plain(PING, b"ping")];
    // RFC 6455 §5.5.3: a pong goes out as soon as that can be done, so it may overtake the echo.
    let session = Session::echo(steps, vec![text(HELLO), pong(b"ping")]).or(
        Grade::Ok,
        vec![pong(b"ping"), text(HELLO)],
        Closing::ours(),
    );
    group.add("a ping behind a compressed text", session);
}

fn add_fragments(list: &mut List) {
    let mut group = Group::new(list, 2);
    let long = long();
    let payload = deflated(&long);
    for bytes in [1, 2, 7, 64] {
        let title = format!("a compressed text in frames of {bytes} bytes");
        group.echo(&title, in_frames(&payload, bytes), vec![text(&long)]);
    }
    let hello = deflated(HELLO);
    let steps = vec![open(4, TEXT, b""), plain(CONTINUATION, &hello)];
    group.echo("an empty frame, then all data in the last one", steps, vec![text(HELLO)]);
    let steps = vec![open(4, TEXT, &hello), plain(CONTINUATION, b"")];
    group.echo("all data in the first frame, then an empty one", steps, vec![text(HELLO)]);
    let steps = vec![
        open(4, TEXT, &hello[..2]),
        open(0, CONTINUATION, b""),
        plain(PING, b"between"),
        open(0, CONTINUATION, &hello[2..4]),
        empty_ping(),
        plain(CONTINUATION, &hello[4..]),
    ];
    let events = vec![pong(b"between"), pong(b""), text(HELLO)];
    group.echo("pings and an empty frame among compressed fragments", steps, events);
    let steps = vec![
        open(4, TEXT, &hello[..2]),
        plain(CONTINUATION, &hello[2..]),
        open(0, TEXT, b"not "),
        plain(CONTINUATION, b"compressed"),
        compressed(TEXT, &hello),
    ];
    let events = vec![text(HELLO), text(b"not compressed"), text(HELLO)];
    group.echo("a compressed text in two frames, a plain one in two, then another", steps, events);
    let steps = vec![open(4, TEXT, &hello[..2]), compressed(TEXT, &hello)];
    let session = Session::protocol_error(steps, vec![]);
    group.add("a compressed text inside another one", session);
    let steps = [&payload[..payload.len() / 2], &payload[payload.len() / 2..]];
    let steps = vec![
        open(4, TEXT, steps[0]),
        Step::Pause,
        plain(CONTINUATION, steps[1]),
        compressed(TEXT, &hello),
    ];
    let events = vec![text(&long), text(HELLO)];
    group.echo("a second's pause among compressed fragments", steps, events);
}

// RFC 6455 §5.2, RFC 7692 §6.
fn add_reserved_bits(list: &mut List) {
    let mut group = Group::new(list, 3);
    let hello = deflated(HELLO);
    for (name, opcode) in [("text", TEXT), ("binary", BINARY)] {
        let session = Session::protocol_error(vec![compressed(opcode, &hello)], vec![]);
        group.bare(&format!("compressed {name} although nothing was agreed on"), session);
    }
    let error = |steps| Session::protocol_error(steps, vec![]);
    let steps = vec![open(4, TEXT, &hello[..2]), reserved(4, CONTINUATION, &hello[2..])];
    group.add("RSV1 on both frames of a compressed text", error(steps));
    let steps = vec![open(0, TEXT, b"Hel"), reserved(4, CONTINUATION, b"lo")];
    group.add("RSV1 on the second frame of a plain text", error(steps));
    group.add("RSV1 on a ping", error(vec![reserved(4, PING, b"ping")]));
    group.add("RSV1 on a pong", error(vec![reserved(4, PONG, b"pong")]));
    let close = close_payload(1000, b"");
    group.add("RSV1 on a Close frame", error(vec![reserved(4, CLOSE, &close)]));
    for rsv in [1, 2, 3, 5, 6, 7] {
        let title = format!("reserved bits {rsv:03b} on a text");
        group.add(&title, error(vec![reserved(rsv, TEXT, &hello)]));
    }
    let steps = vec![compressed(TEXT, &hello), reserved(2, PING, b"")];
    let session = Session::protocol_error(steps, vec![text(HELLO)]).or_non_strict(vec![]);
    group.add("a compressed text, then RSV2 on a ping", session);
}

// RFC 7692 §7.2.3: what a compressor may make of a message.
fn add_blocks(list: &mut List) {
    let mut group = Group::new(list, 4);
    let long = long();
    let fixed = |last| Blocks::new().fixed(last).literals(HELLO).end();
    group.text("a stored block", &Blocks::new().stored(HELLO).into_message(), HELLO);
    group.text("a block with fixed codes", &fixed(false).into_message(), HELLO);
    group.text("a block that says it is the last", &fixed(true).into_message(), HELLO);
    let again = fixed(true).into_message();
    let steps = vec![
        compressed(TEXT, &again),
        compressed(TEXT, &deflated(&long)),
        compressed(TEXT, &again),
        compressed(TEXT, &again),
    ];
    let events = vec![text(HELLO), text(&long), text(HELLO), text(HELLO)];
    group.echo("four texts, all but the second in a block that says it is the last", steps, events);
    let two = Blocks::new().fixed(false).literals(b"He").end().fixed(false).literals(b"llo").end();
    group.text("two blocks with fixed codes", &two.into_message(), HELLO);
    let mixed = Blocks::new().stored(b"He").fixed(false).literals(b"l").end().stored(b"lo");
    group.text("stored blocks and one with fixed codes", &mixed.into_message(), HELLO);
    let empty = (0..1000).fold(Blocks::new(), |blocks, _| blocks.stored(b""));
    let steps = empty.clone().stored(HELLO).into_message();
    group.text("1000 empty stored blocks, then one with text", &steps, HELLO);
    group.text("1001 empty stored blocks", &empty.into_message(), b"");
    let tiny = |blocks: Blocks, byte: &u8| blocks.fixed(false).literals(&[*byte]).end();
    let steps = long.iter().fold(Blocks::new(), tiny).into_message();
    group.text("2 KiB with a block for each byte", &steps, &long);
    let written = Blocks::new().stored(HELLO).stored(b"").into_message();
    group.text("an empty stored block at the end, written out", &written, HELLO);
    let most: Vec<u8> = (0..=u8::MAX).cycle().take(65_535).collect();
    let steps = vec![compressed(BINARY, &Blocks::new().stored(&most).into_message())];
    group.echo("a stored block of 65,535 bytes", steps, vec![binary(&most)]);
    let copy = Blocks::new().fixed(false).literals(b"ab").copy(10, 1).end().into_message();
    group.text("a reference that overlaps what it makes", &copy, b"abababababab");
    // §7.2.1 has the sender leave it out, and no text has the receiver look for it. What is appended to
    // it then begins a block that the next message would have to go on with.
    let kept = [&deflated(HELLO)[..], &[0, 0, 0xff, 0xff]].concat();
    let steps = vec![compressed(TEXT, &kept), compressed(TEXT, &deflated(HELLO))];
    let session = Session::echo(steps, vec![text(HELLO), text(HELLO)])
        .or(Grade::Ok, vec![text(HELLO)], Closing::failed_with(&BAD_DATA))
        .or(Grade::Ok, vec![], Closing::failed_with(&BAD_DATA));
    group.add(
        "a text with the four bytes at its end that have to be left out, then another",
        session,
    );
}

// RFC 1951, and RFC 6455 §7.4.1 on 1007.
fn add_corrupt(list: &mut List) {
    let mut group = Group::new(list, 5);
    let fixed = || Blocks::new().fixed(false);
    group.corrupt("a block of the reserved type", &Blocks::new().bits(6, 3).into_bytes());
    let lied = Blocks::new().stored_as(5, !4, HELLO).into_message();
    group.corrupt("a stored block whose two lengths differ", &lied);
    let far = fixed().literals(b"abc").copy(3, 3).end().into_message();
    group.corrupt("a reference to one byte before the first", &far);
    // Code 29 with all of its 13 bits: the farthest there is.
    let far = fixed().literals(b"abc").copy(3, 29).bits(0x1fff, 13).end().into_message();
    group.corrupt("a reference over 32,768 bytes behind three", &far);
    let nothing = fixed().copy(3, 0).end().into_message();
    group.corrupt("a reference to something before there is anything", &nothing);
    for code in [30, 31] {
        let unused = fixed().literals(b"abc").copy(3, code).end().into_message();
        group.corrupt(&format!("distance code {code}, which must not occur"), &unused);
    }
    for symbol in [286, 287] {
        let unused = fixed().literals(b"abc").symbol(symbol).bits(0, 8).end().into_message();
        group.corrupt(&format!("length code {symbol}, which must not occur"), &unused);
    }
    // Type 2 with HLIT 31, HDIST 0, HCLEN 15: 288 codes, where there are 286.
    let many = Blocks::new().bits(0, 1).bits(2, 2).bits(31, 5).bits(0, 5).bits(15, 4);
    let many = (0..19).fold(many, |blocks, _| blocks.bits(1, 3));
    group.corrupt("288 codes in a table", &many.into_message());
    let table = || Blocks::new().bits(0, 1).bits(2, 2).bits(0, 5).bits(0, 5).bits(15, 4);
    let full = (0..19).fold(table(), |blocks, _| blocks.bits(1, 3));
    group.corrupt("19 codes of one bit each", &full.into_message());
    let none = (0..19 + 100).fold(table(), |blocks, _| blocks.bits(0, 3));
    group.corrupt("a table without any code", &none.into_message());
    group.corrupt("4 KiB of the byte 0xff", &[0xff; 4096]);
    group.corrupt("a zlib header", &[&[0x78, 0x9c], &deflated(HELLO)[..]].concat());
    let right = Blocks::new().stored(HELLO).into_bytes();
    let steps = vec![open(4, BINARY, &right), plain(CONTINUATION, &[0x06, 0xff, 0xff])];
    let session = Session::failure(steps, vec![], &BAD_DATA);
    group.add("a right block in the first fragment, then one of the reserved type", session);
    let steps = vec![
        compressed(TEXT, &deflated(HELLO)),
        compressed(TEXT, &far),
        compressed(TEXT, &deflated(HELLO)),
    ];
    let late = Session::failure(steps, vec![text(HELLO)], &BAD_DATA);
    let late = late.or(Grade::NonStrict, vec![], Closing::failed_with(&BAD_DATA));
    group.add("a right text, a wrong one, and a right one again", late);
    // A receiver that appends the four bytes takes them for the rest of the block, so only a strict one
    // notices that the block goes on.
    let cut = Blocks::new().stored_as(100, !100, HELLO).into_bytes();
    let appended = [HELLO, &[0, 0, 0xff, 0xff]].concat();
    let cut = Session::failure(vec![compressed(BINARY, &cut)], vec![], &BAD_DATA)
        .or(Grade::NonStrict, vec![binary(&appended)], Closing::ours())
        .or(Grade::NonStrict, vec![binary(HELLO)], Closing::ours());
    group.add("a stored block of 100 bytes of which 5 come", cut);
}

// RFC 6455 §8.1: what counts is the text as it was before it was compressed.
fn add_text(list: &mut List) {
    let mut group = Group::new(list, 6);
    let wrong: [(&str, &[u8]); 5] = [
        ("a byte that UTF-8 does not have", b"Hello \xff"),
        ("a surrogate", b"Hello \xed\xa0\x80"),
        ("a character in too many bytes", b"Hello \xc0\xaf"),
        ("a code above U+10FFFF", b"Hello \xf4\x90\x80\x80"),
        ("a character that is cut off", b"Hello \xe2\x82"),
    ];
    for (name, message) in wrong {
        let steps = vec![compressed(TEXT, &deflated(message))];
        let title = format!("compressed text with {name}");
        group.add(&title, Session::failure(steps, vec![], &[1007]));
    }
    let long = [&long()[..], b"\xff", &long()].concat();
    let steps = in_frames(&deflated(&long), 16);
    group.add("a wrong byte amid compressed fragments", Session::failure(steps, vec![], &[1007]));
    let euros = "\u{20ac}".repeat(1000).into_bytes();
    let steps = in_frames(&deflated(&euros), 1);
    group.echo("1000 euro signs in frames of one byte", steps, vec![text(&euros)]);
    // The payload itself is anything but UTF-8.
    let any: Vec<u8> = (0..=u8::MAX).collect();
    let steps = vec![compressed(BINARY, &Blocks::new().stored(&any).into_message())];
    group.echo("compressed binary that is no UTF-8", steps, vec![binary(&any)]);
    let chars = "\u{e4}".as_bytes();
    let halves = Blocks::new().stored(&chars[..1]).stored(&chars[1..]).into_message();
    group.text("a character in two blocks", &halves, chars);
}

fn add_bombs(list: &mut List) {
    let mut group = Group::new(list, 7);
    // Each part ends on a byte, so that they can be laid end to end.
    let mebibyte = deflated(&vec![0; 1 << 20]);
    let mut bomb = [&mebibyte[..], &[0, 0, 0xff, 0xff]].concat().repeat((BOMB_BYTES >> 20) - 1);
    bomb.extend_from_slice(&mebibyte);
    // Somebody may allow 64 MiB; then they must come back. Whoever does not has to say so by 1009.
    let session = |steps| {
        let zeros = Event::Message { binary: true, payload: Payload::repeated(b"\0", BOMB_BYTES) };
        Session::failure(steps, vec![], &[1009])
            .or(Grade::Informational, vec![zeros], Closing::ours())
            .transfer()
    };
    let title = "64 MiB of zeros in one compressed frame of some 64 KiB";
    group.add(title, session(vec![compressed(BINARY, &bomb)]));
    let part = bomb.len().div_ceil(64);
    let mut steps = in_frames(&bomb, part);
    if let Some(Step::Frame(head, _, _)) = steps.first_mut() {
        head.opcode = BINARY;
    }
    group.add("the same in 64 frames", session(steps));
}
