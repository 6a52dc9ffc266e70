//! What peers do that they must not, and what they must be told for it.

use crate::proto::{CloseCode, Header, Opcode};

use super::super::super::client::Client;

/// A crime: its bytes, as a client of this message limit sends them, and the code it earns.
type Crime = (fn(&mut Client, usize), CloseCode);

const CRIMES: [Crime; 13] = [
    (|client, _| client.out.extend(*b"\x81\x01x"), CloseCode::PROTOCOL_ERROR),
    (|client, _| client.out.extend(*b"\x83\x80\0\0\0\0"), CloseCode::PROTOCOL_ERROR),
    (|client, _| client.out.extend(*b"\xC1\x80\0\0\0\0"), CloseCode::PROTOCOL_ERROR),
    (|client, _| client.out.extend(*b"\x09\x80\0\0\0\0"), CloseCode::PROTOCOL_ERROR),
    (|client, _| client.out.extend(*b"\x89\xFE\x01\x00\0\0\0\0"), CloseCode::PROTOCOL_ERROR),
    (
        |client, _| client.out.extend(*b"\x82\xFF\x80\0\0\0\0\0\0\0\0\0\0\0"),
        CloseCode::PROTOCOL_ERROR,
    ),
    (|client, _| client.frame(Opcode::Continuation, true, b"x"), CloseCode::PROTOCOL_ERROR),
    (|client, _| client.frame(Opcode::Close, true, b"x"), CloseCode::PROTOCOL_ERROR),
    (|client, _| client.frame(Opcode::Close, true, b"\x03\xED"), CloseCode::PROTOCOL_ERROR),
    (|client, _| client.frame(Opcode::Text, true, b"A\xC0\xAF"), CloseCode::INVALID_PAYLOAD),
    (announce_too_much, CloseCode::MESSAGE_TOO_BIG),
    (interrupt, CloseCode::PROTOCOL_ERROR),
    (end_inside_a_character, CloseCode::INVALID_PAYLOAD),
];

/// Commits one of the crimes, says some more, and returns the code that must follow.
pub(super) fn commit(
    client: &mut Client,
    rng: &mut fastrand::Rng,
    message_bytes_max: usize,
) -> CloseCode {
    let (crime, code) = CRIMES[rng.usize(0..CRIMES.len())];
    crime(client, message_bytes_max);
    // Less than what a server drops without a word (row R5).
    let more = rng.usize(0..20_000) * usize::from(rng.bool());
    client.out.extend(std::iter::repeat_with(|| rng.u8(..)).take(more));
    client.said_close = true;
    code
}

/// Asks for something else than a WebSocket, or in no language at all.
pub(super) fn knock_badly(client: &mut Client, rng: &mut fastrand::Rng) {
    let heads: [&[u8]; 6] = [
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc",
        b"GET / HTTP/2.0\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xFC\x03\x03",
        b"GET / HTTP/1.1\r\n",
        b"",
    ];
    client.out.extend(heads[rng.usize(0..heads.len())]);
    if rng.bool() {
        let more = rng.usize(0..50_000);
        client.out.extend(std::iter::repeat_with(|| rng.u8(..)).take(more));
    }
    client.said_close = true;
}

fn announce_too_much(client: &mut Client, message_bytes_max: usize) {
    let mut header = [0; 14];
    let payload_len = message_bytes_max as u64 + 1;
    let mask = Some([1, 2, 3, 4]);
    let announced = Header { fin: true, rsv1: false, opcode: Opcode::Binary, mask, payload_len };
    let len = announced.encode(&mut header);
    client.out.extend(&header[..len]);
}

fn end_inside_a_character(client: &mut Client, _: usize) {
    client.frame(Opcode::Text, false, b"A\xE2");
    client.frame(Opcode::Continuation, true, b"\x82");
}

fn interrupt(client: &mut Client, _: usize) {
    client.frame(Opcode::Text, false, b"A");
    client.frame(Opcode::Text, true, b"A");
}
