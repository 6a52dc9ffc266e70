//! Section 2: pings are answered with their payload, pongs are not answered.

use super::List;
use crate::conform::case::{Event, Pace, Session, Step, close_1000, paced, plain, pong};
use crate::conform::frame::{PING, PONG};

const BYTES: &[u8] = b"\x00\xff\xfe\xfd\xfc\xfb\x00\xff";
const LONGEST: &[u8] = &[0xfe; 125];
const TOO_LONG: &[u8] = &[0xfe; 126];
const UNASKED: &[u8] = b"unsolicited pong payload";

pub(super) fn add(list: &mut List) {
    let ping = |payload: &[u8]| {
        Session::echo(vec![plain(PING, payload)], vec![pong(payload)]).closing_at_last()
    };
    list.session(&[2, 1], "a ping without payload", ping(b""));
    list.session(&[2, 2], "a ping with text", ping(b"Hello, world!"));
    list.session(&[2, 3], "a ping with bytes that are no text", ping(BYTES));
    list.session(&[2, 4], "a ping of 125 bytes", ping(LONGEST));
    let too_long = Session::protocol_error(vec![plain(PING, TOO_LONG)], vec![]);
    list.session(&[2, 5], "a ping of 126 bytes, one more than there may be", too_long);
    let bytewise =
        Session { steps: paced(Pace::Chopped(1), vec![plain(PING, LONGEST)]), ..ping(LONGEST) };
    list.session(&[2, 6], "a ping of 125 bytes, byte by byte", bytewise);

    let unasked = |payload: &[u8]| {
        Session::echo(vec![plain(PONG, payload), close_1000()], vec![]).closing_at_last()
    };
    list.session(&[2, 7], "a pong nobody asked for, without payload", unasked(b""));
    list.session(&[2, 8], "a pong nobody asked for, with payload", unasked(UNASKED));
    let steps = vec![plain(PONG, UNASKED), plain(PING, b"ping payload")];
    let session = Session::echo(steps, vec![pong(b"ping payload")]).closing_at_last();
    list.session(&[2, 9], "a pong nobody asked for, then a ping", session);

    list.session(&[2, 10], "ten pings in a row", ten_pings(Pace::Together));
    list.session(&[2, 11], "ten pings in a row, byte by byte", ten_pings(Pace::Chopped(1)));
}

fn ten_pings(pace: Pace) -> Session {
    let payloads: Vec<String> = (0..10).map(|number| format!("payload-{number}")).collect();
    let pings: Vec<Step> = payloads.iter().map(|payload| plain(PING, payload.as_bytes())).collect();
    let pongs: Vec<Event> = payloads.iter().map(|payload| pong(payload.as_bytes())).collect();
    Session::echo(paced(pace, pings), pongs).closing_at_last()
}
