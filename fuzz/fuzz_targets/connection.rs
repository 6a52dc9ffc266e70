//! A whole connection of a server against a literal model of RFC 6455: the peer's bytes at any cuts,
//! the application sending, closing, pausing and pinging, a peer that takes what it likes, and time.

#![no_main]

use libfuzzer_sys::fuzz_target;
use longwire::fuzz_internals::{Fact, Options, Outcome, Rig};
use longwire_fuzz::inflate::{Other, Read};
use longwire_fuzz::model::{Model, Said};
use longwire_fuzz::script::Script;
use longwire_fuzz::wire::{self, PONG};

fuzz_target!(|input: &[u8]| {
    let (script, options) = Script::of(input);
    let mut rig = Rig::open(&options);
    script.play(&mut rig);
    compare(&options, rig.finish());
});

fn compare(options: &Options, outcome: Outcome) {
    let Outcome { messages, output, close, closed, facts, .. } = outcome;
    let mut model = Model::new(*options);
    facts.iter().for_each(|fact| model.tell(fact));
    assert_eq!(messages, model.messages, "messages of {facts:?}");

    let (frames, rest) = wire::read(&output);
    let mut inflater = Other::default();
    let said: Vec<Said> =
        frames.into_iter().map(|frame| read(options, &mut inflater, frame)).collect();
    // What a reset destroys was never sent.
    let broken = closed == Some(true) || closed.is_some() && facts.contains(&Fact::Failed);
    assert!(broken || rest.is_empty(), "frames are sent whole");
    let (said, expected) = if options.pongs_queued_max == u16::MAX {
        (said, model.said)
    } else {
        check_pongs(&said, &model.said, &facts);
        (without_pongs(said), without_pongs(model.said))
    };
    if broken {
        assert!(expected.starts_with(&said), "{said:?} is the start of {expected:?} of {facts:?}");
    } else {
        assert_eq!(said, expected, "frames of {facts:?}");
    }

    let close = close.expect("what was open has ended");
    let local = close.side() == longwire::Side::Local;
    let ended = (close.code().as_u16(), close.reason().to_owned(), local);
    assert_eq!(Some(ended), model.ended, "the end of {facts:?}");
}

/// A frame that was sent, with what it says uncompressed.
fn read(options: &Options, inflater: &mut Other, frame: wire::Frame) -> Said {
    assert!(!frame.masked, "a server does not mask");
    if frame.first & 0x40 == 0 {
        return (frame.first, frame.payload);
    }
    let compression = options.compression.expect("RSV1 was agreed on");
    if !compression.context_takeover {
        inflater.reset();
    }
    let Read::Whole(payload) = inflater.message(&frame.payload, usize::MAX) else {
        panic!("what is compressed can be inflated");
    };
    assert!(payload.len() >= compression.message_bytes_min, "short messages are sent as they are");
    (frame.first & !0x40, payload)
}

/// RFC 6455 §5.5.3: of pings that wait for an answer, only the newest needs one.
fn check_pongs(said: &[Said], expected: &[Said], facts: &[Fact]) {
    let pongs = |said: &[Said]| -> Vec<Vec<u8>> {
        let pongs = said.iter().filter(|(first, _)| *first == PONG);
        pongs.map(|(_, payload)| payload.clone()).collect()
    };
    let (said, expected) = (pongs(said), pongs(expected));
    let mut rest = expected.iter();
    for pong in &said {
        assert!(rest.any(|ping| ping == pong), "{said:?} are some of {expected:?} of {facts:?}");
    }
}

fn without_pongs(said: Vec<Said>) -> Vec<Said> {
    said.into_iter().filter(|(first, _)| *first != PONG).collect()
}
