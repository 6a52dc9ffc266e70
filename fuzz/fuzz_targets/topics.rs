//! The topics of two cores against a literal model, which also drives the unit tests: subscribing,
//! leaving and publishing between any two slices, slow readers, full inboxes, history.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| longwire::fuzz_internals::topics(input));
