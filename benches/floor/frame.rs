//! The bytes of a cell's message on the wire: as a client sends it, and as a server must answer.
//!
//! Written from RFC 6455 §5.2 on its own, not with the encoder of the library: a benchmark that
//! shares code with what it measures would agree with its mistakes.

use crate::cell::{Cell, Payload};

const MASKING_KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
const FIN: u8 = 0x80;
const MASKED: u8 = 0x80;

/// The message as a client sends it, masked.
pub(crate) fn client_frame(cell: &Cell) -> Vec<u8> {
    let payload = payload(cell);
    let mut frame = header(cell.payload, payload.len(), MASKED);
    frame.extend_from_slice(&MASKING_KEY);
    frame.extend(payload.iter().zip(MASKING_KEY.iter().cycle()).map(|(byte, key)| byte ^ key));
    frame
}

/// The echo of it.
pub(crate) fn server_frame(cell: &Cell) -> Vec<u8> {
    let payload = payload(cell);
    let mut frame = header(cell.payload, payload.len(), 0);
    frame.extend_from_slice(&payload);
    frame
}

/// Fills `bytes` with answers of `frame_bytes` each, whose payload is whatever lies there.
pub(crate) fn fill_empty(bytes: &mut [u8], frame_bytes: usize) {
    let header = header(Payload::Binary, payload_bytes_of(frame_bytes), 0);
    for frame in bytes.chunks_exact_mut(frame_bytes) {
        frame[..header.len()].copy_from_slice(&header);
    }
}

/// Bytes of payload in an unmasked frame of so many bytes.
fn payload_bytes_of(frame_bytes: usize) -> usize {
    match frame_bytes {
        0..128 => frame_bytes - 2,
        128..65_540 => frame_bytes - 4,
        _ => frame_bytes - 10,
    }
}

fn header(kind: Payload, payload_bytes: usize, mask: u8) -> Vec<u8> {
    let opcode = match kind {
        Payload::MixedText => 0x1,
        Payload::Binary => 0x2,
    };
    let mut header = vec![FIN | opcode];
    // RFC 6455 §5.2: the shortest form that holds the length.
    if let Some(len) = u8::try_from(payload_bytes).ok().filter(|&len| len < 126) {
        header.push(mask | len);
    } else if let Ok(len) = u16::try_from(payload_bytes) {
        header.push(mask | 126);
        header.extend_from_slice(&len.to_be_bytes());
    } else {
        header.push(mask | 127);
        header.extend_from_slice(&(payload_bytes as u64).to_be_bytes());
    }
    header
}

fn payload(cell: &Cell) -> Vec<u8> {
    match cell.payload {
        // 251 is prime, so no power of two of the server's buffers falls in step with it.
        Payload::Binary => (0..=250u8).cycle().take(cell.payload_bytes).collect(),
        Payload::MixedText => mixed_text(cell.payload_bytes),
    }
}

/// Text of exactly `bytes` bytes whose characters have one to four bytes, in no regular order.
fn mixed_text(bytes: usize) -> Vec<u8> {
    const SCRIPTS: [&str; 5] = ["wire ", "дальний ", "長い線路", "🜁🜂𝄞", "é日a😀ж"];
    let mut text = String::with_capacity(bytes);
    let mut order = 0usize;
    let mut next = || {
        order = (order * 5 + 3) % 64;
        SCRIPTS[order % SCRIPTS.len()]
    };
    let mut piece = next();
    while text.len() + piece.len() <= bytes {
        text.push_str(piece);
        piece = next();
    }
    while text.len() < bytes {
        text.push('.');
    }
    text.into_bytes()
}
