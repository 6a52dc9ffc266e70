//! Sections 12 and 13: compressed messages of many sizes, of five kinds of data under the plain offer, and
//! of one kind under seven sets of parameters.

use super::List;
use crate::conform::case::Compressed;
use crate::conform::corpus::Kind;

const COUNT: usize = 1000;
/// Length of each message, and of the frames that it is cut into after it was compressed.
const SIZES: [(usize, Option<usize>); 18] = [
    (16, None),
    (64, None),
    (256, None),
    (1024, None),
    (4096, None),
    (8192, None),
    (16_384, None),
    (32_768, None),
    (65_536, None),
    (131_072, None),
    (8192, Some(256)),
    (16_384, Some(256)),
    (32_768, Some(256)),
    (65_536, Some(256)),
    (131_072, Some(256)),
    (131_072, Some(1024)),
    (131_072, Some(4096)),
    (131_072, Some(32_768)),
];

/// The offers of the suite, which always allow the server to restrict the client.
const PLAIN: &str = "permessage-deflate; client_no_context_takeover; client_max_window_bits";
const OFFERS: [&str; 7] = [
    PLAIN,
    "permessage-deflate; client_no_context_takeover; client_max_window_bits; \
     server_no_context_takeover",
    "permessage-deflate; client_no_context_takeover; client_max_window_bits; \
     server_max_window_bits=9",
    "permessage-deflate; client_no_context_takeover; client_max_window_bits; \
     server_max_window_bits=15",
    "permessage-deflate; client_no_context_takeover; client_max_window_bits; \
     server_no_context_takeover; server_max_window_bits=9",
    "permessage-deflate; client_no_context_takeover; client_max_window_bits; \
     server_no_context_takeover; server_max_window_bits=15",
    "permessage-deflate; client_no_context_takeover; client_max_window_bits; \
     server_no_context_takeover; server_max_window_bits=9, \
     permessage-deflate; client_no_context_takeover; client_max_window_bits; \
     server_no_context_takeover, \
     permessage-deflate; client_no_context_takeover; client_max_window_bits",
];

pub(super) fn add(list: &mut List) {
    for (group, kind) in (1..).zip(Kind::ALL) {
        add_sizes(list, [12, group], PLAIN, kind);
    }
    for (group, offer) in (1..).zip(OFFERS) {
        add_sizes(list, [13, group], offer, Kind::Json);
    }
}

fn add_sizes(list: &mut List, group: [u16; 2], offer: &'static str, kind: Kind) {
    for (number, (len, fragment_bytes)) in (1..).zip(SIZES) {
        let case = Compressed { offer, kind, len, fragment_bytes, count: COUNT };
        list.compressed(&[group[0], group[1], number], case);
    }
}
