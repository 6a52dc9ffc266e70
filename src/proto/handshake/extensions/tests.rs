//! Tables of offers and answers, and what either side makes of them.

use super::*;

// What the sides of the tables want.
const PLAIN: DeflatePolicy = DeflatePolicy { context_takeover: false, window_bits_max: 15 };
const TAKEOVER: DeflatePolicy = DeflatePolicy { context_takeover: true, window_bits_max: 15 };
const SMALL: DeflatePolicy = DeflatePolicy { context_takeover: true, window_bits_max: 11 };

fn accept(lines: &[&str], policy: &DeflatePolicy) -> Option<Acceptance> {
    let lines: Vec<_> = lines.iter().map(|line| line.as_bytes()).collect();
    accept_offer(lines.into_iter(), policy)
}

/// The answer to these offers, if one of them is taken.
fn answer(lines: &[&str], policy: &DeflatePolicy) -> Option<String> {
    let acceptance = accept(lines, policy)?;
    let mut out = [0; ANSWER_BYTES_MAX];
    let bytes = acceptance.write_answer(&mut out);
    Some(String::from_utf8(out[..bytes].to_vec()).unwrap())
}

#[test]
fn answer_says_what_was_accepted_of_the_offer() {
    const BOTH: &str = "; server_no_context_takeover; client_no_context_takeover";
    for (policy, offer, expected) in [
        (&PLAIN, "", BOTH.to_owned()),
        (&PLAIN, "; client_max_window_bits", BOTH.to_owned()),
        (&PLAIN, ";client_max_window_bits=10", BOTH.to_owned()),
        (&PLAIN, "; client_no_context_takeover", BOTH.to_owned()),
        (&PLAIN, "; server_no_context_takeover", BOTH.to_owned()),
        (&PLAIN, "; server_max_window_bits=15", format!("{BOTH}; server_max_window_bits=15")),
        (&PLAIN, ";server_max_window_bits = 9 ", format!("{BOTH}; server_max_window_bits=9")),
        (&TAKEOVER, "", String::new()),
        (&TAKEOVER, "; client_max_window_bits=8", String::new()),
        (&TAKEOVER, "; client_no_context_takeover", "; client_no_context_takeover".to_owned()),
        (
            &TAKEOVER,
            "\t;\tserver_no_context_takeover ;server_max_window_bits=10",
            "; server_no_context_takeover; server_max_window_bits=10".to_owned(),
        ),
        (&SMALL, "", "; server_max_window_bits=11".to_owned()),
        (
            &SMALL,
            "; server_max_window_bits=15; client_max_window_bits",
            "; server_max_window_bits=11; client_max_window_bits=11".to_owned(),
        ),
        (
            &SMALL,
            "; client_max_window_bits=9; server_max_window_bits=10",
            "; server_max_window_bits=10; client_max_window_bits=9".to_owned(),
        ),
        (
            &SMALL,
            "; client_max_window_bits=14",
            "; server_max_window_bits=11; client_max_window_bits=11".to_owned(),
        ),
        (
            &SMALL,
            "; client_max_window_bits=8",
            "; server_max_window_bits=11; client_max_window_bits=8".to_owned(),
        ),
    ] {
        let offer = format!("{EXTENSION_NAME}{offer}");
        let expected = format!("{EXTENSION_NAME}{expected}");
        assert_eq!(answer(&[&offer], policy), Some(expected), "to {offer:?} by {policy:?}");
    }
}

#[test]
fn accepted_parameters_are_those_of_the_answer() {
    let offer = "permessage-deflate; server_max_window_bits=12; client_max_window_bits";
    let expected = DeflateParams {
        server_no_context_takeover: true,
        client_no_context_takeover: true,
        server_window_bits: 12,
        client_window_bits: 15,
    };
    assert_eq!(accept(&[offer], &PLAIN).unwrap().params, expected);
    let expected = DeflateParams {
        server_no_context_takeover: false,
        client_no_context_takeover: false,
        server_window_bits: 11,
        client_window_bits: 11,
    };
    assert_eq!(accept(&[offer], &SMALL).unwrap().params, expected);
}

/// Ends of `permessage-deflate` with which it is no offer to take.
const DECLINED: &[&str] = &[
    "; server_no_context_takeover=true",
    "; server_no_context_takeover=1",
    "; server_no_context_takeover=\"1\"",
    "; client_no_context_takeover=0",
    "; server_no_context_takeover; server_no_context_takeover",
    "; client_no_context_takeover; client_no_context_takeover",
    "; server_max_window_bits",
    "; server_max_window_bits=0",
    "; server_max_window_bits=7",
    "; server_max_window_bits=8",
    "; server_max_window_bits=16",
    "; server_max_window_bits=08",
    "; server_max_window_bits=010",
    "; server_max_window_bits=1",
    "; server_max_window_bits=1x",
    "; server_max_window_bits=100",
    "; server_max_window_bits=-10",
    "; server_max_window_bits=+10",
    "; server_max_window_bits=10.0",
    "; server_max_window_bits=0xA",
    "; server_max_window_bits=\"10\"",
    "; server_max_window_bits=\"1\\0\"",
    "; server_max_window_bits=10; server_max_window_bits=10",
    "; server_max_window_bits=10; server_max_window_bits=11",
    "; client_max_window_bits=0",
    "; client_max_window_bits=7",
    "; client_max_window_bits=16",
    "; client_max_window_bits=08",
    "; client_max_window_bits=\"15\"",
    "; client_max_window_bits=18446744073709551631",
    "; client_max_window_bits; client_max_window_bits",
    "; client_max_window_bits; client_max_window_bits=10",
    "; client_max_window_bits=10; client_max_window_bits",
    "; client_max_window_bits; x",
    "; x=1; client_max_window_bits",
    "; Server_no_context_takeover",
    "; mux",
    "x",
];

#[test]
fn hs16_bad_offer_is_declined_and_the_next_one_tried() {
    for end in DECLINED {
        for policy in [&PLAIN, &TAKEOVER, &SMALL] {
            let bad = format!("{EXTENSION_NAME}{end}");
            assert_eq!(accept(&[&bad], policy), None, "{bad}");
            let good = "permessage-deflate; server_max_window_bits=10";
            let alone = accept(&[good], policy);
            assert!(alone.is_some());
            assert_eq!(accept(&[&format!("{bad}, {good}")], policy), alone, "{bad}");
            assert_eq!(accept(&[&format!(",{bad} ,,{bad},{good},")], policy), alone, "{bad}");
            assert_eq!(accept(&[&bad, good], policy), alone, "{bad} in a line of its own");
            assert_eq!(accept(&[good, &bad], policy), alone, "{bad} behind a good one");
        }
    }
}

#[test]
fn hs15_malformed_or_unknown_offers_are_no_offer() {
    for line in [
        "",
        " ",
        ",",
        "permessage-deflat",
        "Permessage-Deflate",
        "permessage-deflate2",
        "x-webkit-deflate-frame",
        "x; permessage-deflate",
        "x=permessage-deflate",
        "permessage-deflate;",
        "permessage-deflate;;client_max_window_bits",
        "permessage-deflate; client_max_window_bits=",
        "permessage-deflate; client_max_window_bits=\"\"",
        "permessage-deflate; client_max_window_bits=\"15",
        "permessage-deflate=1",
        "permessage-deflate permessage-deflate",
    ] {
        assert_eq!(accept(&[line], &PLAIN), None, "{line:?}");
    }
    for line in ["mux; a=\"b\", permessage-deflate", "a;b;c,permessage-deflate, permessage-deflate"]
    {
        assert!(accept(&[line], &PLAIN).is_some(), "{line:?}");
    }
}

#[test]
fn first_acceptable_offer_is_taken() {
    let line = "permessage-deflate; server_max_window_bits=8, \
        permessage-deflate; server_max_window_bits=9, permessage-deflate";
    assert_eq!(accept(&[line], &PLAIN).unwrap().params.server_window_bits, 9);
}

#[test]
fn hs15_every_byte_of_long_offers_is_looked_at_once() {
    // Of one head a server reads 16 KiB. Here it is so much that looking at bytes twice for
    // each byte before them would take hours.
    let bytes = if cfg!(miri) { 512 } else { 4 << 20 };
    for (start, repeated) in [
        ("permessage-deflate; a=\"", "\\a"),
        ("", ","),
        ("", " "),
        ("", "permessage-deflate; x, "),
        ("", "permessage-deflate; server_max_window_bits=8,"),
        ("permessage-deflate", ";client_max_window_bits"),
        ("permessage-deflate; x", "y"),
        ("permessage-deflate; x;", " "),
    ] {
        let line = start.to_owned() + &repeated.repeat(bytes / repeated.len());
        assert_eq!(accept(&[&line], &PLAIN), None, "{start}{repeated}...");
    }
    let lines = vec!["permessage-deflate; x"; bytes / 32];
    assert_eq!(accept(&lines, &PLAIN), None);
}

#[test]
fn longest_answer_fits_its_bound_exactly() {
    let params = DeflateParams {
        server_no_context_takeover: true,
        client_no_context_takeover: true,
        server_window_bits: 15,
        client_window_bits: 10,
    };
    let longest = Acceptance { params, answers_server_bits: true, answers_client_bits: true };
    assert_eq!(longest.write_answer(&mut [0; ANSWER_BYTES_MAX]), ANSWER_BYTES_MAX);
}

#[test]
fn client_and_server_agree_on_the_same_parameters() {
    for client_bits in 9..=15 {
        for server_bits in 9..=15 {
            for takeovers in [(false, false), (false, true), (true, false), (true, true)] {
                let client =
                    DeflatePolicy { context_takeover: takeovers.0, window_bits_max: client_bits };
                let server =
                    DeflatePolicy { context_takeover: takeovers.1, window_bits_max: server_bits };
                let offer = offer(&client);
                let acceptance = accept(&[&offer], &server).unwrap();
                let answer = answer(&[&offer], &server).unwrap();
                let agreed = accept_answer([answer.as_bytes()].into_iter(), &client);
                let agreed = agreed.unwrap().unwrap();
                assert_eq!(agreed.server_window_bits, client_bits.min(server_bits));
                // A client may stay below what the server has to expect.
                assert!(agreed.client_window_bits <= acceptance.params.client_window_bits);
                let known = DeflateParams {
                    client_window_bits: acceptance.params.client_window_bits,
                    ..agreed
                };
                assert_eq!(known, acceptance.params, "{client:?} with {server:?}");
            }
        }
    }
}

#[test]
fn client_takes_answers_that_keep_to_its_offer() {
    let agreed = |lines: &[&str], policy| {
        let lines: Vec<_> = lines.iter().map(|line| line.as_bytes()).collect();
        accept_answer(lines.into_iter(), policy)
    };
    assert_eq!(agreed(&[], &PLAIN), Ok(None));
    let params = |server, client, server_bits, client_bits| {
        Ok(Some(DeflateParams {
            server_no_context_takeover: server,
            client_no_context_takeover: client,
            server_window_bits: server_bits,
            client_window_bits: client_bits,
        }))
    };
    for (policy, end, expected) in [
        (&PLAIN, "; server_no_context_takeover", params(true, true, 15, 15)),
        (
            &PLAIN,
            ";server_no_context_takeover;client_max_window_bits=9;server_max_window_bits=8",
            params(true, true, 8, 9),
        ),
        (&TAKEOVER, "", params(false, false, 15, 15)),
        (&TAKEOVER, "; client_no_context_takeover", params(false, true, 15, 15)),
        (&TAKEOVER, "; server_no_context_takeover", params(true, false, 15, 15)),
        (&TAKEOVER, "; client_max_window_bits=15", params(false, false, 15, 15)),
        (&SMALL, "; server_max_window_bits=11", params(false, false, 11, 11)),
        (
            &SMALL,
            "; server_max_window_bits=9; client_max_window_bits=10",
            params(false, false, 9, 10),
        ),
    ] {
        assert_eq!(agreed(&[&format!("{EXTENSION_NAME}{end}")], policy), expected, "{end}");
    }
}

#[test]
fn client_fails_on_answers_to_another_offer() {
    let judge = |line: &str, policy: &DeflatePolicy| {
        accept_answer([line.as_bytes()].into_iter(), policy).unwrap_err()
    };
    for line in ["mux", "permessage-deflate, mux", "Permessage-deflate", "x;y=1"] {
        assert_eq!(judge(line, &TAKEOVER), UpgradeError::UnrequestedExtension, "{line}");
    }
    for line in ["", ",", ";", "permessage-deflate;", "permessage-deflate, permessage-deflate"] {
        assert_eq!(judge(line, &TAKEOVER), UpgradeError::ExtensionMismatch, "{line}");
    }
    let wrong = DECLINED.iter().filter(|end| !matches!(**end, "x" | "; server_max_window_bits=8"));
    for end in wrong.chain(&["; client_max_window_bits", "; client_max_window_bits=8"]) {
        let line = format!("{EXTENSION_NAME}{end}");
        assert_eq!(judge(&line, &TAKEOVER), UpgradeError::ExtensionMismatch, "{line}");
    }
    for (policy, end) in [
        (&PLAIN, ""),
        (&PLAIN, "; client_no_context_takeover"),
        (&SMALL, ""),
        (&SMALL, "; client_max_window_bits=11"),
        (&SMALL, "; server_max_window_bits=12"),
        (&SMALL, "; server_max_window_bits=11; client_max_window_bits=12"),
    ] {
        let line = format!("{EXTENSION_NAME}{end}");
        assert_eq!(judge(&line, policy), UpgradeError::ExtensionMismatch, "{line}");
    }
}
