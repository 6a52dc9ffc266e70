//! Section 1: messages in one frame, at both sides of each change of the length field.

use super::List;
use crate::conform::case::{Event, Pace, Payload, Session, Step};
use crate::conform::frame::{BINARY, Head, TEXT};

const SIZES: [usize; 7] = [0, 125, 126, 127, 128, 65_535, 65_536];
const CHOP: usize = 997;

pub(super) fn add(list: &mut List) {
    let kinds = [(1, false, TEXT, b"*"), (2, true, BINARY, b"\xfe")];
    for (group, binary, opcode, unit) in kinds {
        let kind = if binary { "binary" } else { "text" };
        let sizes = SIZES.map(|bytes| (bytes, Pace::Together));
        let chopped = (65_536, Pace::Chopped(CHOP));
        for (number, (bytes, pace)) in (1..).zip(sizes.into_iter().chain([chopped])) {
            let payload = Payload::repeated(unit, bytes);
            let step = Step::Frame(Head::of(opcode), payload.clone(), pace);
            let session = Session::echo(vec![step], vec![Event::Message { binary, payload }]);
            let pieces = if pace == Pace::Together { "" } else { ", in pieces of 997 bytes" };
            list.session(&[1, group, number], format!("{kind} of {bytes} bytes{pieces}"), session);
        }
    }
}
