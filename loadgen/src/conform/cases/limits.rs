//! Sections 9 and 10: large messages, in one frame, in fragments, in small pieces, and many in a row.
//! Their content is compared to the last byte, which the Autobahn TestSuite does not do.

use super::List;
use crate::conform::case::{Event, Pace, Payload, Session, Step};
use crate::conform::frame::{BINARY, Head, TEXT};

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;
const SIZES: [usize; 6] = [64 * KIB, 256 * KIB, MIB, 4 * MIB, 8 * MIB, 16 * MIB];
const FRAGMENTS: [usize; 9] = [64, 256, KIB, 4 * KIB, 16 * KIB, 64 * KIB, 256 * KIB, MIB, 4 * MIB];
const CHOPS: [usize; 6] = [64, 128, 256, 512, 1024, 2048];
const ROUND_TRIP_SIZES: [usize; 6] = [0, 16, 64, 256, 1024, 4096];
const ROUND_TRIPS: usize = 1000;

pub(super) fn add(list: &mut List) {
    for (group, binary) in [(0, false), (1, true)] {
        let unit = if binary { &b"\x00\xfe\x23\xfa\xf0"[..] } else { b"BAsd7&jh23" };
        let (opcode, kind) = if binary { (BINARY, "binary") } else { (TEXT, "text") };
        let frame = |bytes, pace| {
            let payload = Payload::repeated(unit, bytes);
            let step = Step::Frame(Head::of(opcode), payload.clone(), pace);
            large(step, binary, payload)
        };
        for (number, bytes) in (1..).zip(SIZES) {
            let title = format!("{kind} of {} in one frame", size(bytes));
            list.session(&[9, 1 + group, number], title, frame(bytes, Pace::Together));
        }
        for (number, bytes) in (1..).zip(FRAGMENTS) {
            // The suite fills all but one of these alike.
            let unit = if binary && number == 1 { b"\xfe" } else { b"*" };
            let payload = Payload::repeated(unit, 4 * MIB);
            let step = Step::Fragments { binary, payload: payload.clone(), bytes };
            let title = format!("{kind} of 4 MiB in fragments of {}", size(bytes));
            list.session(&[9, 3 + group, number], title, large(step, binary, payload));
        }
        for (number, chop) in (1..).zip(CHOPS) {
            let title = format!("{kind} of 1 MiB in pieces of {}", size(chop));
            list.session(&[9, 5 + group, number], title, frame(MIB, Pace::Chopped(chop)));
        }
        for (number, bytes) in (1..).zip(ROUND_TRIP_SIZES) {
            list.round_trips(&[9, 7 + group, number], binary, bytes, ROUND_TRIPS);
        }
    }
    let payload = Payload::repeated(b"*", 64 * KIB);
    let step = Step::Fragments { binary: false, payload: payload.clone(), bytes: 1300 };
    let session = Session::echo(vec![step], vec![Event::Message { binary: false, payload }]);
    list.session(&[10, 1, 1], "text of 64 KiB in 51 fragments of at most 1300 bytes", session);
}

fn large(step: Step, binary: bool, payload: Payload) -> Session {
    let events = vec![Event::Message { binary, payload }];
    Session::echo(vec![step], events).closing_at_last().transfer()
}

fn size(bytes: usize) -> String {
    match bytes {
        MIB.. => format!("{} MiB", bytes / MIB),
        KIB.. => format!("{} KiB", bytes / KIB),
        _ => format!("{bytes} bytes"),
    }
}
