//! permessage-deflate on a connection (rows PD, FR05, FR06). What the engines do with each kind of
//! block is tested beside them; there Miri sees enough of zlib, which is all it would run here.

use crate::conn::{MessageKind, Phase};
use crate::policy::{CompressionLimits, Limits};
use crate::proto::deflate::Deflater;
use crate::proto::handshake::extensions::DeflatePolicy;

use super::rig::{Rig, echo, listen};
use super::ways::every_way;
use super::wire::{
    BINARY, LAST, MORE, PING, PONG, REQUEST, TEXT, TEXT_PART, masked, masked_close, plain,
    plain_close, read,
};

/// RSV1 in the first byte of a frame.
const COMPRESSED: u8 = 0x40;
/// "Hello", as RFC 7692 §7.2.3.1 compresses it.
const HELLO: &[u8] = &[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];

pub(super) fn limits(context_takeover: bool) -> CompressionLimits {
    CompressionLimits {
        policy: DeflatePolicy { context_takeover, window_bits_max: 15 },
        level: 1,
        message_bytes_min: 32,
    }
}

fn within(context_takeover: bool, message_bytes_max: usize) -> Limits {
    Limits {
        compression: Some(limits(context_takeover)),
        message_bytes_max,
        frame_bytes_max: message_bytes_max,
        ..Limits::default()
    }
}

/// A connection whose client has offered compression.
fn open_within(app: super::rig::App, limits: Limits) -> Rig {
    let mut rig = Rig::accepted(app, limits);
    let head = REQUEST.strip_suffix(b"\r\n").unwrap();
    rig.receive(&[head, b"Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n"].concat());
    assert!(rig.opened);
    let answer = String::from_utf8(std::mem::take(&mut rig.output)).unwrap();
    assert!(answer.contains("\r\nSec-WebSocket-Extensions: permessage-deflate"), "{answer}");
    rig
}

fn open() -> Rig {
    open_within(listen, within(false, 64 * 1024))
}

fn compress(payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    Deflater::new(6, 15).deflate(payload, &mut out);
    out
}

/// What a connection says to `bytes`, however they are cut: the messages, and the frames.
fn judge(bytes: &[u8]) -> (Vec<(MessageKind, Vec<u8>)>, Vec<u8>) {
    let outcome = every_way(open, &[bytes, &masked_close(1000)].concat());
    (outcome.messages, outcome.output)
}

fn assert_fails(bytes: &[u8], code: u16) {
    let (messages, output) = judge(bytes);
    assert_eq!((messages, output), (Vec::new(), plain_close(code)));
}

#[test]
#[cfg_attr(miri, ignore = "zlib takes too long")]
fn compressed_message_is_inflated_however_it_is_cut() {
    let (messages, output) = judge(&masked(TEXT | COMPRESSED, HELLO));
    assert_eq!(messages, [(MessageKind::Text, b"Hello".to_vec())]);
    assert_eq!(output, plain_close(1000));
}

#[test]
#[cfg_attr(miri, ignore = "zlib takes too long")]
fn fragments_of_a_compressed_message_are_one_stream_with_pings_between() {
    let bytes = [
        masked(TEXT_PART | COMPRESSED, &HELLO[..3]),
        masked(PING, b"?"),
        masked(MORE, &[]),
        masked(LAST, &HELLO[3..]),
        masked(BINARY, b"as it is"),
    ];
    let (messages, output) = judge(&bytes.concat());
    let expected =
        [(MessageKind::Text, b"Hello".to_vec()), (MessageKind::Binary, b"as it is".to_vec())];
    assert_eq!(messages, expected);
    assert_eq!(output, [plain(PONG, b"?"), plain_close(1000)].concat());
}

#[test]
#[cfg_attr(miri, ignore = "zlib takes too long")]
fn fr06_compressed_bit_on_a_continuation_or_a_control_frame_fails() {
    let begun = masked(TEXT_PART | COMPRESSED, &HELLO[..3]);
    assert_fails(&[&begun[..], &masked(LAST | COMPRESSED, &HELLO[3..])].concat(), 1002);
    assert_fails(&masked(PING | COMPRESSED, HELLO), 1002);
    assert_fails(&masked(TEXT | 0x20, b"x"), 1002);
    assert_fails(&masked(TEXT | COMPRESSED | 0x10, HELLO), 1002);
}

#[test]
#[cfg_attr(miri, ignore = "zlib takes too long")]
fn fr05_compressed_bit_without_the_extension_fails() {
    let outcome = every_way(|| Rig::open(listen), &masked(TEXT | COMPRESSED, HELLO));
    assert_eq!((outcome.messages.len(), outcome.output), (0, plain_close(1002)));
}

#[test]
#[cfg_attr(miri, ignore = "zlib takes too long")]
fn pd01_bomb_ends_at_the_first_byte_over_the_limit() {
    let limit = 64 * 1024;
    for (bytes, passes) in [(limit, true), (limit + 1, false), (4 << 20, false)] {
        let bomb = compress(&vec![0; bytes]);
        let parts: Vec<u8> = [TEXT_PART | COMPRESSED]
            .into_iter()
            .chain(std::iter::repeat(MORE))
            .zip(bomb.chunks(bomb.len().div_ceil(9)))
            .flat_map(|(first, part)| masked(first, part))
            .chain(masked(LAST, &[]))
            .collect();
        for bytes in [masked(TEXT | COMPRESSED, &bomb), parts] {
            let mut rig = open();
            rig.receive(&bytes);
            assert_eq!(rig.messages.len(), usize::from(passes), "{} bytes", bytes.len());
            assert_eq!(rig.output, if passes { Vec::new() } else { plain_close(1009) });
            rig.release();
        }
    }
}

#[test]
#[cfg_attr(miri, ignore = "zlib takes too long")]
fn pd01_memory_of_a_bomb_is_its_limit_and_no_more() {
    let limit = 1 << 20;
    let mut rig = open_within(listen, within(false, limit));
    let bomb = compress(&vec![0; 64 << 20]);
    let frame = masked(BINARY | COMPRESSED, &bomb);
    for piece in frame.chunks(100) {
        rig.receive(piece);
        let held = rig.core.pool.sized_lent_bytes();
        assert!(held <= limit + 64, "{held} bytes");
    }
    assert_eq!(rig.output, plain_close(1009));
    rig.release();
}

#[test]
#[cfg_attr(miri, ignore = "zlib takes too long")]
fn pd02_limit_holds_for_what_is_inflated() {
    let message = vec![b'a'; 4096];
    let frame = masked(TEXT | COMPRESSED, &compress(&message));
    assert!(frame.len() < 64);
    let mut rig = open_within(listen, within(false, 128));
    rig.receive(&frame);
    assert_eq!(rig.output, plain_close(1009));
    rig.release();
    // Bytes that cannot be compressed are larger on the wire than the limit they keep.
    let random: Vec<u8> = std::iter::repeat_with(|| fastrand::u8(..)).take(4096).collect();
    let compressed = compress(&random);
    assert!(compressed.len() > random.len());
    let mut rig = open_within(listen, within(false, 4096));
    rig.receive(&masked(BINARY | COMPRESSED, &compressed));
    assert_eq!(rig.messages, [(MessageKind::Binary, random)]);
    rig.release();
}

#[test]
#[cfg_attr(miri, ignore = "zlib takes too long")]
fn pd03_malformed_data_fails_once_and_gives_the_engine_back() {
    // A block of the reserved type; a distance to before the start.
    assert_fails(&masked(TEXT | COMPRESSED, &[0x06, 0, 0]), 1007);
    assert_fails(&masked(TEXT | COMPRESSED, &[0x02, 0x13, 0x00, 0x00]), 1007);
}

#[test]
#[cfg_attr(miri, ignore = "zlib takes too long")]
fn pd03_message_must_not_refer_to_the_one_before_without_takeover() {
    let mut deflater = Deflater::new(6, 15);
    let mut frames = Vec::new();
    for _ in 0..2 {
        let mut out = Vec::new();
        deflater.deflate(b"a message that is worth to be remembered", &mut out);
        frames.push(masked(TEXT | COMPRESSED, &out));
    }
    let mut rig = open();
    rig.receive(&frames.concat());
    assert_eq!((rig.messages.len(), &rig.output), (1, &plain_close(1007)));
    rig.release();
    let mut rig = open_within(listen, within(true, 1024));
    rig.receive(&frames.concat());
    assert_eq!(rig.messages.len(), 2);
    assert_eq!(rig.messages[0], rig.messages[1]);
    rig.release();
}

#[test]
#[cfg_attr(miri, ignore = "zlib takes too long")]
fn pd04_final_block_stored_block_and_empty_message_are_taken() {
    // RFC 7692 §7.2.3.4, §7.2.3.3, §7.2.3.6.
    let last = &[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00];
    let stored = &[0x00, 0x05, 0x00, 0xfa, 0xff, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0x00];
    let bytes = [
        masked(TEXT | COMPRESSED, last),
        masked(TEXT | COMPRESSED, stored),
        masked(TEXT | COMPRESSED, &[0x00]),
        masked(TEXT | COMPRESSED, &[]),
    ];
    let (messages, output) = judge(&bytes.concat());
    let texts: Vec<&[u8]> = messages.iter().map(|(_, payload)| &payload[..]).collect();
    assert_eq!(texts, [&b"Hello"[..], b"Hello", b"", b""]);
    assert_eq!(output, plain_close(1000));
}

#[test]
#[cfg_attr(miri, ignore = "zlib takes too long")]
fn fg06_text_that_inflates_to_something_else_fails_at_the_bad_byte() {
    let mut payload = b"good ".to_vec();
    payload.push(0xff);
    payload.extend_from_slice(&[b'x'; 300]);
    assert_fails(&masked(TEXT | COMPRESSED, &compress(&payload)), 1007);
    // Before the message is whole.
    let compressed = compress(&payload);
    let mut rig = open();
    rig.receive(&masked(TEXT_PART | COMPRESSED, &compressed));
    assert_eq!(rig.output, plain_close(1007));
    rig.release();
    // Cut within a character at its end.
    assert_fails(&masked(TEXT | COMPRESSED, &compress(&[0xe2, 0x82])), 1007);
}

#[test]
#[cfg_attr(miri, ignore = "zlib takes too long")]
fn reply_is_compressed_if_it_is_long_enough_and_gains_by_it() {
    let mut rig = open_within(echo, within(false, 64 * 1024));
    let random: Vec<u8> = std::iter::repeat_with(|| fastrand::u8(..)).take(500).collect();
    rig.receive(&masked(TEXT, b"short"));
    rig.receive(&masked(BINARY, &random));
    rig.receive(&masked(TEXT | COMPRESSED, &compress(&[b'a'; 500])));
    let frames = read(&rig.output);
    let (bits, lens): (Vec<u8>, Vec<usize>) =
        frames.iter().map(|frame| (frame.first, frame.payload.len())).unzip();
    assert_eq!(bits, [TEXT, BINARY, TEXT | COMPRESSED]);
    assert!(lens[..2] == [5, 500] && lens[2] < 20, "{lens:?}");
    rig.release();
}

#[test]
#[cfg_attr(miri, ignore = "zlib takes too long")]
fn pd06_idle_compressed_connection_holds_no_engine() {
    let mut rig = open_within(echo, within(false, 64 * 1024));
    for _ in 0..3 {
        rig.receive(&masked(TEXT | COMPRESSED, &compress(&[b'a'; 5000])));
        assert_eq!(rig.core.engines.lent_count(), 0);
    }
    assert!(rig.connection.extras.is_none());
    assert_eq!(rig.connection.phase(), Phase::Open);
    rig.release();
}

#[test]
#[cfg_attr(miri, ignore = "zlib takes too long")]
fn pd07_engine_goes_back_wherever_a_message_breaks_off() {
    let compressed = compress(&[b'a'; 5000]);
    let started = masked(TEXT_PART | COMPRESSED, &compressed[..compressed.len() / 2]);
    let endings: [fn(&mut Rig); 6] = [
        Rig::break_off,
        Rig::receive_end,
        |rig| rig.receive(&masked_close(1000)),
        |rig| rig.receive(&masked(MORE | COMPRESSED, b"")),
        |rig| rig.receive(&masked(LAST, &[0xff; 10])),
        |rig| rig.act(|connection, core| connection.retire(1012.into(), core)),
    ];
    for end in endings {
        let mut rig = open_within(listen, within(true, 64 * 1024));
        rig.receive(&started);
        end(&mut rig);
        // It asserts that every engine is back.
        rig.release();

        let mut rig = open();
        rig.receive(&started);
        assert_eq!(rig.core.engines.lent_count(), 1, "the message is not whole");
        end(&mut rig);
        rig.release();
    }
}
