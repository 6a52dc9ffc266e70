//! Raw bytes behind the handshake: however they are cut, and however slowly the answers are taken,
//! the application sees the same and the peer gets the same.
//!
//! The first byte of an input says which role, application and compression; all else is what the
//! peer sends.

#![no_main]

use libfuzzer_sys::fuzz_target;
use longwire::Side;
use longwire::fuzz_internals::{App, Compression, Options, Outcome, Rig};
use longwire_fuzz::cuts;
use longwire_fuzz::inflate::{Other, Read};
use longwire_fuzz::wire::{self, Frame};

fuzz_target!(|input: &[u8]| {
    let Some((&how, bytes)) = input.split_first() else { return };
    let options = options(how);
    let whole = observe(&options, |rig| rig.feed(bytes, &[]));
    let mut random = cuts::random_of(input);
    for cuts in cuts::ways(bytes) {
        let (each, batched) = (1 << random.u32(0..16), random.bool());
        let cut = observe(&options, |rig| {
            rig.batch(batched);
            rig.take_at_most(each);
            rig.feed(bytes, &cuts);
        });
        assert_eq!(cut, whole, "cut at {cuts:?}, {each} taken at a time, batched: {batched}");
    }
});

fn options(how: u8) -> Options {
    let compression = (how & 0x10 != 0).then_some(Compression {
        context_takeover: how & 0x20 != 0,
        window_bits_max: if how & 0x40 != 0 { 9 } else { 15 },
        message_bytes_min: 4,
    });
    Options {
        client: how & 1 != 0,
        app: [App::Listen, App::Echo, App::Copy, App::Echo][usize::from(how >> 1 & 3)],
        compression,
        frame_bytes_max: if how & 8 != 0 { 300 } else { 64 * 1024 },
        message_bytes_max: if how & 8 != 0 { 500 } else { 64 * 1024 },
        empty_fragments_max: 4,
        control_frames_burst: 64,
        // What is said behind a queue that does not move depends on how it moves.
        pongs_queued_max: u16::MAX,
        send_high_water_bytes: 64 * 1024,
        send_bytes_max: usize::MAX,
        ping_interval: 1000,
        pong: 1000,
        message: 1000,
        close: 1000,
        linger: 1000,
    }
}

/// What does not depend on chance: masking keys of a client are random, and so is what they mask. Of
/// two faults in one message, which is found first depends on the cut, and so does the cause.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    messages: Vec<(bool, Vec<u8>)>,
    frames: Vec<Frame>,
    close: Option<(u16, String, Side)>,
    shut: bool,
    closed: Option<bool>,
}

fn observe(options: &Options, feed: impl FnOnce(&mut Rig)) -> Seen {
    let mut rig = Rig::open(options);
    feed(&mut rig);
    let Outcome { messages, output, close, shut, closed, .. } = rig.finish();
    let (frames, rest) = wire::read(&output);
    assert!(rest.is_empty(), "frames are sent whole");
    check_frames(options, &frames);
    let close = close.map(|close| (close.code().as_u16(), close.reason().to_owned(), close.side()));
    Seen { messages, frames, close, shut, closed }
}

/// Each frame is one that a strict peer takes.
fn check_frames(options: &Options, frames: &[Frame]) {
    let mut inflater = Other::default();
    for (index, frame) in frames.iter().enumerate() {
        assert_eq!(frame.masked, options.client, "a client masks and a server does not");
        let last = index + 1 == frames.len();
        match frame.first {
            0x81 | 0x82 => {}
            0xc1 | 0xc2 => {
                let compression = options.compression.expect("RSV1 was agreed on");
                if !compression.context_takeover {
                    inflater.reset();
                }
                let read = inflater.message(&frame.payload, options.message_bytes_max);
                assert!(matches!(read, Read::Whole(_)), "what is compressed can be inflated");
            }
            wire::PONG => assert!(frame.payload.len() <= 125),
            wire::CLOSE => assert!(last, "a Close frame is the last"),
            first => panic!("nobody asked for {first:#x}"),
        }
    }
}
