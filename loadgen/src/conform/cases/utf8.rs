//! Section 6: text is UTF-8, and what cannot become UTF-8 any more is refused at once.

use super::List;
use super::utf8_table::{self, GROUPS, hex};
use crate::conform::case::{
    Closing, Event, Grade, Outcome, Pace, Payload, Session, Step, open_ended, plain, text,
};
use crate::conform::frame::{CONTINUATION, Head, TEXT};

const GREETING: &str = "Hello-µ@ßöäüàá-UTF-8!!";
const GREEK: &[u8] = utf8_table::GREEK.as_bytes();
const SURROGATE: &[u8] = b"\xed\xa0\x80";
const BEYOND_UNICODE: &[u8] = b"\xf4\x90\x80\x80";
const EDITED: &[u8] = b"edited";
/// Of the script in which frames are cut by hand.
const KEY: [u8; 4] = [0x5a, 0xc3, 0x0f, 0x91];

pub(super) fn add(list: &mut List) {
    add_empty(list);
    add_valid(list);
    add_invalid(list);
    add_fail_fast(list);
    for (group, sequences) in (5..).zip(GROUPS) {
        for (number, (is_valid, bytes)) in (1..).zip(sequences.sequences()) {
            let session = if is_valid {
                Session::echo(vec![plain(TEXT, &bytes)], vec![text(&bytes)])
            } else {
                invalid(vec![plain(TEXT, &bytes)])
            };
            let kind = if is_valid { "valid" } else { "invalid" };
            let title = format!("{}, {kind}: {}", sequences.name, hex(&bytes));
            list.session(&[6, group, number], title, session);
        }
    }
}

/// The server fails the connection with 1007.
fn invalid(steps: Vec<Step>) -> Session {
    let closing = Closing { must_notice: true, ..Closing::failed_with(&[1007]) };
    let outcomes = vec![Outcome { grade: Grade::Ok, events: Vec::new(), closing }];
    Session { outcomes, ..Session::echo(steps, Vec::new()) }
}

fn bytewise(payload: &[u8]) -> Vec<Step> {
    vec![Step::Fragments { binary: false, payload: Payload::new(payload), bytes: 1 }]
}

fn add_empty(list: &mut List) {
    let echo = |steps, payload| Session::echo(steps, vec![text(payload)]).closing_at_last();
    list.session(&[6, 1, 1], "empty text", echo(vec![plain(TEXT, b"")], b""));
    let steps =
        vec![open_ended(TEXT, b""), open_ended(CONTINUATION, b""), plain(CONTINUATION, b"")];
    list.session(&[6, 1, 2], "text in three empty fragments", echo(steps, b""));
    let middle = b"middle frame payload";
    let steps =
        vec![open_ended(TEXT, b""), open_ended(CONTINUATION, middle), plain(CONTINUATION, b"")];
    let title = "text in three fragments, only that in the middle not empty";
    list.session(&[6, 1, 3], title, echo(steps, middle));
}

fn add_valid(list: &mut List) {
    let whole = GREETING.as_bytes();
    let (start, end) = whole.split_at(GREETING.find('ü').unwrap_or_default());
    let echo = |steps, payload| Session::echo(steps, vec![text(payload)]).closing_at_last();
    list.session(&[6, 2, 1], "valid text in one frame", echo(vec![plain(TEXT, whole)], whole));
    let steps = vec![open_ended(TEXT, start), plain(CONTINUATION, end)];
    list.session(&[6, 2, 2], "valid text, cut between two characters", echo(steps, whole));
    list.session(&[6, 2, 3], "valid text in frames of one byte", echo(bytewise(whole), whole));
    list.session(&[6, 2, 4], "Greek text in frames of one byte", echo(bytewise(GREEK), GREEK));
}

fn add_invalid(list: &mut List) {
    let bytes = [GREEK, SURROGATE, EDITED].concat();
    let title = "text with a surrogate in it";
    list.session(&[6, 3, 1], title, invalid(vec![plain(TEXT, &bytes)]));
    let title = "text with a surrogate in it, in frames of one byte";
    list.session(&[6, 3, 2], title, invalid(bytewise(&bytes)));
}

/// The fault is in the second part; the third only comes if the server has sat through it.
fn add_fail_fast(list: &mut List) {
    let bytes = [GREEK, BEYOND_UNICODE, EDITED].concat();
    let fault = GREEK.len();
    let cuts = [
        ("up to the fault, the fault, the rest", fault, fault + BEYOND_UNICODE.len()),
        ("up to the fault, the byte that makes it one, the rest", fault + 1, fault + 2),
    ];
    for (number, (title, first, second)) in (1..).zip(cuts) {
        let parts = [&bytes[..first], &bytes[first..second], &bytes[second..]];
        let steps = vec![
            open_ended(TEXT, parts[0]),
            Step::Silence('A'),
            open_ended(CONTINUATION, parts[1]),
            Step::Silence('B'),
            plain(CONTINUATION, parts[2]),
        ];
        list.session(&[6, 4, number], format!("text in three frames: {title}"), fail_fast(steps));
        let steps = vec![
            Step::Part { bytes: head_of(bytes.len()), key: [0; 4], offset: 0 },
            Step::Part { bytes: parts[0].to_vec(), key: KEY, offset: 0 },
            Step::Silence('A'),
            Step::Part { bytes: parts[1].to_vec(), key: KEY, offset: first },
            Step::Silence('B'),
            Step::Part { bytes: parts[2].to_vec(), key: KEY, offset: second },
            Step::Frame(Head::of(CONTINUATION), Payload::new(b""), Pace::Together),
        ];
        let title = format!("one frame of text in three pieces: {title}");
        list.session(&[6, 4, number + 2], title, fail_fast(steps));
    }
}

/// Head of a text frame whose payload follows in parts.
fn head_of(payload_bytes: usize) -> Vec<u8> {
    let mut out = Vec::new();
    Head { fin: false, ..Head::of(TEXT) }.write(payload_bytes, KEY, &mut out);
    out
}

fn fail_fast(steps: Vec<Step>) -> Session {
    let mut session = invalid(steps);
    session.outcomes[0].events = vec![Event::Silence('A')];
    session.or_non_strict(vec![Event::Silence('A'), Event::Silence('B')])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_agrees_with_the_standard_library_on_what_is_valid() {
        for group in GROUPS {
            for (is_valid, bytes) in group.sequences() {
                assert_eq!(std::str::from_utf8(&bytes).is_ok(), is_valid, "{}", hex(&bytes));
            }
        }
    }

    #[test]
    fn text_is_invalid_from_its_thirteenth_byte_on() {
        let bytes = [GREEK, BEYOND_UNICODE, EDITED].concat();
        let error = std::str::from_utf8(&bytes).unwrap_err();
        assert_eq!((error.valid_up_to(), error.error_len()), (11, Some(1)));
        assert!(std::str::from_utf8(&bytes[..12]).unwrap_err().error_len().is_none());
    }
}
