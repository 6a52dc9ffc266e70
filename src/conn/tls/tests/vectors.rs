//! Against records that others have made, and the last number there is.

use ring::aead::{AES_128_GCM, CHACHA20_POLY1305};

use crate::conn::tls::fault::Fault;
use crate::conn::tls::record::{APPLICATION_DATA, RecordKey, record_bytes};

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u32> = hex.chars().filter_map(|digit| digit.to_digit(16)).collect();
    digits.chunks(2).map(|pair| u8::try_from(pair[0] * 16 + pair[1]).unwrap()).collect()
}

/// RFC 8448 §3, "{client} send application_data record".
const RECORD: &str = "17 03 03 00 43 a2 3f 70 54 b6 2c 94 d0 af fa fe 82 28 ba 55 cb ef ac ea \
    42 f9 14 aa 66 bc ab 3f 2b 98 19 a8 a5 b4 6b 39 5b d5 4a 9a 20 44 1e 2b 62 97 4e 1f 5a 62 92 \
    a2 97 70 14 bd 1e 3d ea e6 3a ee bb 21 69 49 15 e4";

fn client_key() -> RecordKey {
    let key = bytes("17 42 2d da 59 6e d5 d9 ac d8 90 e3 c6 3f 50 51");
    let iv = bytes("5b 78 92 3d ee 08 57 90 33 e5 23 d9");
    RecordKey::of(&AES_128_GCM, &key, &iv, 0).unwrap()
}

#[test]
fn record_of_rfc_8448_is_sealed_and_opened() {
    let content: Vec<u8> = (0..50).collect();
    let mut record = [&[0; 5][..], &content, &[0; 17]].concat();
    client_key().seal(&mut record, APPLICATION_DATA).unwrap();
    assert_eq!(record, bytes(RECORD));
    assert_eq!(record_bytes(&record), Ok(Some(72)));
    // Opened further in front than it lies, as the second record of a block is.
    let header = *record.first_chunk().unwrap();
    let mut memory = [&[0xee; 22][..], &record[5..]].concat();
    let opened = client_key().open(header, &mut memory, 22);
    assert_eq!(opened, Ok((APPLICATION_DATA, 50)));
    assert_eq!(memory[..50], content);
}

#[test]
fn second_record_of_a_key_has_another_nonce() {
    let mut key = client_key();
    let mut records = [[0; 30], [0; 30]];
    for record in &mut records {
        key.seal(record, APPLICATION_DATA).unwrap();
    }
    assert_ne!(records[0], records[1]);
}

#[test]
fn last_number_is_an_error_and_does_not_wrap() {
    let mut key = RecordKey::of(&CHACHA20_POLY1305, &[1; 32], &[2; 12], u64::MAX - 1).unwrap();
    let mut record = [0; 30];
    assert!(key.seal(&mut record, APPLICATION_DATA).is_some());
    for _ in 0..2 {
        assert!(key.seal(&mut record, APPLICATION_DATA).is_none());
        let header = *record.first_chunk().unwrap();
        assert_eq!(key.open(header, &mut record, 5), Err(Fault::Internal));
    }
}
