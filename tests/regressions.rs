//! One test for each bug that was found in use or by testing, with what was seen above it.
//!
//! Each failed before its bug was mended. The tests use the public API only, so that they outlive
//! the code that was wrong.

use longwire::{BackendChoice, Builder, Error, Server, TapTarget};

fn builder() -> Builder {
    Server::builder().listen(([127, 0, 0, 1], 0).into()).backend(BackendChoice::Epoll)
}

/// Why the settings are refused.
fn misuse(builder: Builder) -> String {
    match builder.build() {
        Err(Error::Misuse(text)) => text,
        other => panic!("refused as misuse, not {other:?}"),
    }
}

/// `longwire echo --conns-max 18446744073709551615` panicked with "attempt to add with overflow"
/// while it worked out which descriptor limit to advise.
#[test]
fn conns_max_beyond_every_limit_is_an_error() {
    for conns in [usize::MAX, usize::MAX - 64, usize::MAX / 2] {
        let text = misuse(builder().conns_max(conns));
        assert!(text.contains("descriptor limit"), "{text}");
        assert!(text.contains(&format!("{conns} connections")), "{text}");
    }
}

/// The documentation gave 32,767 as the highest rate, but any was taken, and above it the burst was
/// less than the promised twice the rate.
#[test]
fn control_frame_rate_above_its_range_is_an_error() {
    let text = misuse(builder().control_frames_per_second(32_768));
    assert!(text.contains("at most 32767"), "{text}");
    assert!(builder().control_frames_per_second(32_767).build().is_ok());
}

/// A tap of a connection whose worker had a full inbox was over at once, as if the connection had
/// ended; one of a topic or an address did without that worker, and did not say so.
#[test]
fn tap_reaches_a_worker_that_takes_no_more_messages() {
    let server = builder().workers(1).inbox_orders_max(16).build().unwrap();
    let handle = server.handle();
    let id = "0".parse().unwrap();
    while handle.send(id, "filler") {}
    for target in [TapTarget::Conn(id), TapTarget::Topic("a".to_owned())] {
        let mut tap = handle.tap(target, 0);
        assert_eq!(tap.try_next(), None, "the worker has not begun");
        assert!(!tap.is_over());
    }
}
