//! Tests of the frame codec: the printed examples of RFC 6455, every length field, every violation.

use super::*;

fn written(head: Head, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    write_frame(head, payload, [0x37, 0xfa, 0x21, 0x3d], &mut out);
    out
}

fn read(bytes: &[u8]) -> Result<Incoming, ReadEnd> {
    Reader::new(bytes, None).next()
}

fn violation_of(bytes: &[u8]) -> Violation {
    match read(bytes) {
        Err(ReadEnd::Violation(violation)) => violation,
        other => panic!("{bytes:?} was read as {other:?}"),
    }
}

#[test]
fn masked_hello_is_written_as_the_standard_prints_it() {
    let printed = [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
    assert_eq!(written(Head::of(TEXT), b"Hello"), printed);
}

#[test]
fn lengths_are_written_in_each_form() {
    let head = |form| Head { form, mask: Mask::None, ..Head::of(BINARY) };
    let start = |form, bytes: usize| {
        let mut out = Vec::new();
        head(form).write(bytes, [1; 4], &mut out);
        out
    };
    assert_eq!(start(LengthForm::Shortest, 125), [0x82, 125]);
    assert_eq!(start(LengthForm::Shortest, 126), [0x82, 126, 0, 126]);
    assert_eq!(start(LengthForm::Shortest, 65_535), [0x82, 126, 0xff, 0xff]);
    assert_eq!(start(LengthForm::Shortest, 65_536), [0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0]);
    assert_eq!(start(LengthForm::Two, 5), [0x82, 126, 0, 5]);
    assert_eq!(start(LengthForm::Eight, 5), [0x82, 127, 0, 0, 0, 0, 0, 0, 0, 5]);
    assert_eq!(start(LengthForm::Lie(1 << 63), 5), [0x82, 127, 0x80, 0, 0, 0, 0, 0, 0, 0]);
}

#[test]
fn bits_and_mask_are_written_as_asked() {
    let head = Head { fin: false, rsv: 5, mask: Mask::None, ..Head::of(3) };
    assert_eq!(written(head, b"ab"), [0x53, 2, b'a', b'b']);
    let head = Head { mask: Mask::Key([0; 4]), ..Head::of(PING) };
    assert_eq!(written(head, b"x"), [0x89, 0x81, 0, 0, 0, 0, b'x']);
}

#[test]
fn masking_goes_on_where_the_last_part_ended() {
    let mut whole: Vec<u8> = (0..23).collect();
    let mut parts = whole.clone();
    apply_mask(&mut whole, [1, 2, 3, 4], 0);
    apply_mask(&mut parts[..6], [1, 2, 3, 4], 0);
    apply_mask(&mut parts[6..], [1, 2, 3, 4], 6);
    assert_eq!(parts, whole);
}

#[test]
fn keys_differ_from_frame_to_frame_and_repeat_from_run_to_run() {
    let (mut keys, mut again) = (Keys::new(7), Keys::new(7));
    let first: Vec<_> = (0..100).map(|_| keys.next_key()).collect();
    assert!(first.iter().all(|key| *key == again.next_key()));
    assert!(first.windows(2).all(|pair| pair[0] != pair[1]));
}

#[test]
fn fragments_with_a_ping_between_them_are_read_as_ping_and_message() {
    let bytes = [0x01, 1, b'a', 0x89, 1, b'p', 0x80, 1, b'b'];
    let mut reader = Reader::new(&bytes[..], None);
    assert_eq!(reader.next().unwrap(), Incoming::Ping(b"p".to_vec()));
    let message = Incoming::Message { binary: false, payload: b"ab".to_vec(), compressed: false };
    assert_eq!(reader.next().unwrap(), message);
    assert!(matches!(reader.next(), Err(ReadEnd::Gone(io::ErrorKind::UnexpectedEof))));
}

#[test]
fn long_lengths_are_read() {
    for bytes in [126, 65_535, 65_536, 70_000] {
        let sent = vec![b'*'; bytes];
        let head = Head { mask: Mask::None, ..Head::of(TEXT) };
        let message = Incoming::Message { binary: false, payload: sent.clone(), compressed: false };
        assert_eq!(read(&written(head, &sent)).unwrap(), message);
    }
}

#[test]
fn close_frames_are_taken_apart() {
    assert_eq!(read(&[0x88, 0]).unwrap(), Incoming::Close(None));
    let close = Incoming::Close(Some((1002, "no".to_owned())));
    assert_eq!(read(&[0x88, 4, 0x03, 0xea, b'n', b'o']).unwrap(), close);
    assert_eq!(violation_of(&[0x88, 1, 3]), Violation::CloseOfOneByte);
    assert_eq!(violation_of(&[0x88, 2, 0x03, 0xed]), Violation::CloseCode(1005));
    assert_eq!(violation_of(&[0x88, 2, 0x13, 0x88]), Violation::CloseCode(5000));
    assert_eq!(violation_of(&[0x88, 3, 0x03, 0xe8, 0xff]), Violation::CloseReasonNotUtf8);
}

#[test]
fn what_a_server_must_not_send_is_named() {
    assert_eq!(violation_of(&[0x81, 0x80, 0, 0, 0, 0]), Violation::MaskedFrame);
    assert_eq!(violation_of(&[0xc1, 0]), Violation::ReservedBits);
    assert_eq!(violation_of(&[0x83, 0]), Violation::ReservedOpcode(3));
    assert_eq!(violation_of(&[0x8b, 0]), Violation::ReservedOpcode(11));
    assert_eq!(violation_of(&[0x09, 0]), Violation::FragmentedControl);
    assert_eq!(violation_of(&[0x89, 126, 0, 126]), Violation::LongControl);
    assert_eq!(violation_of(&[0x81, 126, 0, 125]), Violation::LengthNotShortest);
    assert_eq!(
        violation_of(&[0x81, 127, 0, 0, 0, 0, 0, 0, 0xff, 0xff]),
        Violation::LengthNotShortest
    );
    let huge = [0x82, 127, 0, 0, 0, 0, 0xff, 0, 0, 0];
    assert_eq!(violation_of(&huge), Violation::HugeFrame(0xff00_0000));
    assert_eq!(violation_of(&[0x80, 0]), Violation::ContinuationOfNothing);
    assert_eq!(violation_of(&[0x01, 0, 0x81, 0]), Violation::MessageInsideMessage);
    assert_eq!(violation_of(&[0x81, 1, 0xff]), Violation::TextNotUtf8);
}

#[test]
fn text_may_be_cut_inside_a_character_by_a_fragment() {
    let message =
        Incoming::Message { binary: false, payload: "ö".as_bytes().to_vec(), compressed: false };
    assert_eq!(read(&[0x01, 1, 0xc3, 0x80, 1, 0xb6]).unwrap(), message);
}

#[test]
fn frame_cut_anywhere_is_an_end_and_never_a_message() {
    let whole = [0x82, 126, 0, 130].into_iter().chain([7; 130]).collect::<Vec<u8>>();
    assert!(read(&whole).is_ok());
    for end in 0..whole.len() {
        assert!(matches!(read(&whole[..end]), Err(ReadEnd::Gone(_))), "{end}");
    }
}

#[test]
fn compressed_messages_are_read_only_where_that_was_agreed_on() {
    // RFC 7692 §7.2.3.1, and the same in two fragments.
    let whole = [0xc1, 7, 0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
    let halves = [0x41, 3, 0xf2, 0x48, 0xcd, 0x80, 4, 0xc9, 0xc9, 0x07, 0x00];
    let hello = Incoming::Message { binary: false, payload: b"Hello".to_vec(), compressed: true };
    for bytes in [&whole[..], &halves[..]] {
        assert_eq!(violation_of(bytes), Violation::ReservedBits);
        assert_eq!(read_agreed(bytes).unwrap(), hello);
    }
}

#[test]
fn what_breaks_the_rules_of_compression_is_named() {
    let agreed = |bytes: &[u8]| match read_agreed(bytes) {
        Err(ReadEnd::Violation(violation)) => violation,
        other => panic!("{bytes:?} was read as {other:?}"),
    };
    assert_eq!(agreed(&[0x41, 0, 0xc0, 1, 0]), Violation::ReservedBits);
    assert_eq!(agreed(&[0xc9, 0]), Violation::ReservedBits);
    assert_eq!(agreed(&[0xa1, 0]), Violation::ReservedBits);
    assert_eq!(agreed(&[0xc1, 1, 0x06]), Violation::NotDeflate);
    // Stored: one byte that no UTF-8 has.
    assert_eq!(agreed(&[0xc1, 7, 0, 1, 0, 0xfe, 0xff, 0xff, 0]), Violation::TextNotUtf8);
}

fn read_agreed(bytes: &[u8]) -> Result<Incoming, ReadEnd> {
    Reader::new(bytes, Some(Inflater::new(&Default::default()))).next()
}
