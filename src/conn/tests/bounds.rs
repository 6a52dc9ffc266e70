//! What holds for every input: work is linear (row R2), and a limit is checked before the step that
//! it protects (row R9).

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use crate::conn::MessageKind;
use crate::policy::{Limits, Overflow};

use super::rig::{Rig, Window, listen};
use super::wire::{BINARY, KEY, LAST, MORE, TEXT, TEXT_PART, header, masked, plain_close};

#[test]
fn r9_what_is_over_a_limit_takes_no_memory_first() {
    let limits = Limits {
        message_bytes_max: 1000,
        frame_bytes_max: 1000,
        overflow: Overflow::Drop,
        ..Limits::default()
    };
    // A length, before room for the payload.
    let mut rig = Rig::open_within(listen, limits.clone());
    rig.receive(&header(BINARY, 1001, Some(KEY)));
    assert_eq!((rig.output.clone(), rig.core.pool.lent_count()), (plain_close(1009), 0));
    rig.release();
    // A total, before the fragment that passes it is joined to the others.
    let mut rig = Rig::open_within(listen, limits.clone());
    rig.receive(&masked(TEXT_PART, &[b'x'; 600]));
    let held = rig.core.pool.sized_lent_bytes();
    rig.receive(&header(LAST, 401, Some(KEY)));
    assert!(rig.core.pool.sized_lent_bytes() <= held);
    assert_eq!(rig.output, plain_close(1009));
    rig.release();
    // A queue, before a message is put into it.
    let mut rig = Rig::open_within(listen, limits);
    rig.window = Window::Room(0);
    let send =
        |rig: &mut Rig| rig.act(|c, core| c.send(MessageKind::Binary, &[0; 100_000], core)).is_ok();
    while send(&mut rig) {}
    let held = rig.core.pool.sized_lent_bytes();
    for _ in 0..100 {
        assert!(!send(&mut rig));
    }
    assert_eq!(rig.core.pool.sized_lent_bytes(), held);
    rig.release();
}

/// The CPU time of a connection that is fed `bytes` one by one, at best.
fn time_by_bytes(bytes: &[u8], open: fn() -> Rig) -> Duration {
    let clock = || Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap();
    let times = (0..7).map(|_| {
        let mut rig = open();
        let start = clock();
        for byte in bytes {
            rig.receive(std::slice::from_ref(byte));
        }
        let time = clock() - start;
        rig.release();
        time
    });
    times.min().unwrap()
}

#[test]
#[cfg_attr(miri, ignore = "it measures time")]
fn r2_work_grows_with_the_bytes_received_and_no_faster() {
    let head = |bytes: usize| [b"GET / HTTP/1.1\r\nX: ", &vec![b'x'; bytes][..]].concat();
    let text = |bytes: usize| masked(TEXT, "é".repeat(bytes / 2).as_bytes());
    let parts =
        |bytes: usize| [masked(TEXT_PART, b"x"), masked(MORE, b"x").repeat(bytes / 7)].concat();
    type Case<'a> = (&'a dyn Fn(usize) -> Vec<u8>, fn() -> Rig);
    let cases: [Case<'_>; 3] = [
        (&head, || Rig::accepted(listen, Limits::default())),
        (&text, || Rig::open(listen)),
        (&parts, || Rig::open(listen)),
    ];
    for (number, (input, open)) in cases.into_iter().enumerate() {
        let (few, many) = (time_by_bytes(&input(3000), open), time_by_bytes(&input(12_000), open));
        // Four times the bytes: 4 if it is linear, 16 if each byte has all before it looked at.
        assert!(many < few * 9, "input {number}: {few:?}, then {many:?}");
    }
}
