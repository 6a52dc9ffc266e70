//! Both engines against the examples of RFC 7692, against each other, and against a reader of
//! DEFLATE of a few lines (`model`) that shares nothing with zlib.

mod model;

use super::*;

const STEPS: [usize; 4] = [1, 2, 7, 4096];

/// What a message inflates to, fed in pieces of `input_step` into slices of `output_step` bytes.
fn inflate_stepwise(
    inflater: &mut Inflater,
    message: &[u8],
    input_step: usize,
    output_step: usize,
) -> Result<Vec<u8>, Violation> {
    let mut text = Vec::new();
    let mut room = vec![0; output_step];
    for piece in message.chunks(input_step).chain([&TAIL[..]]) {
        let mut rest = piece;
        loop {
            let (consumed, produced) = inflater.push(rest, &mut room)?;
            text.extend_from_slice(&room[..produced]);
            rest = &rest[consumed..];
            if produced < room.len() {
                assert!(rest.is_empty(), "a push that leaves room has used all input");
                break;
            }
        }
    }
    Ok(text)
}

fn inflate(inflater: &mut Inflater, message: &[u8]) -> Result<Vec<u8>, Violation> {
    inflate_stepwise(inflater, message, message.len().max(1), 64 * 1024)
}

/// Inflates messages with one inflater in every combination of steps, which all must agree.
fn inflate_every_way(messages: &[&[u8]]) -> Vec<Result<Vec<u8>, Violation>> {
    let run = |input_step, output_step| -> Vec<_> {
        let mut inflater = Inflater::new();
        messages
            .iter()
            .map(|message| inflate_stepwise(&mut inflater, message, input_step, output_step))
            .collect()
    };
    let whole = run(usize::MAX, 64 * 1024);
    for input_step in STEPS {
        for output_step in STEPS {
            assert_eq!(run(input_step, output_step), whole, "{input_step} into {output_step}");
        }
    }
    whole
}

/// Text that compresses about as JSON does, with some bytes of chance in it.
fn sample(random: &mut fastrand::Rng, len: usize) -> Vec<u8> {
    const WORDS: [&str; 8] = ["{\"id\":", ",\"name\":\"", "\"}", "[", "true", "lorem", ",", "null"];
    let mut text = Vec::with_capacity(len + 16);
    while text.len() < len {
        match random.u8(..8) {
            0 => text.push(random.u8(..)),
            1 => text.extend_from_slice(random.u32(..).to_string().as_bytes()),
            _ => text.extend_from_slice(random.choice(WORDS).unwrap().as_bytes()),
        }
    }
    text.truncate(len);
    text
}

#[test]
fn pd04_examples_of_the_rfc_are_inflated() {
    let hello: &[u8] = &[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
    let stored: &[u8] = &[0x00, 0x05, 0x00, 0xfa, 0xff, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0x00];
    let bfinal: &[u8] = &[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00];
    let two_blocks: &[u8] =
        &[0xf2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xff, 0xff, 0xca, 0xc9, 0xc9, 0x07, 0x00];
    for message in [hello, stored, bfinal, two_blocks] {
        assert_eq!(inflate_every_way(&[message]), [Ok(b"Hello".to_vec())], "{message:02x?}");
        assert_eq!(inflate_every_way(&[message, hello]).len(), 2);
    }
    assert_eq!(inflate_every_way(&[&[0x00]]), [Ok(Vec::new())], "the empty message");

    // §7.2.3.2: the second message refers to the first one.
    let again: &[u8] = &[0xf2, 0x00, 0x11, 0x00, 0x00];
    let both = [Ok(b"Hello".to_vec()), Ok(b"Hello".to_vec())];
    assert_eq!(inflate_every_way(&[hello, again]), both);
    let fresh = inflate_every_way(&[again]);
    assert_eq!(fresh, [Err(Violation::MalformedDeflate)], "there is nothing to refer to");
}

#[test]
fn pd04_stream_behind_bfinal_begins_anew() {
    let hello_final = [0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
    let message = [&hello_final[..], &hello_final, &hello_final, &[0x00]].concat();
    assert_eq!(inflate_every_way(&[&message]), [Ok(b"HelloHelloHello".to_vec())]);

    // A message that ends with BFINAL, the next one after it, with takeover or not.
    let bfinal: &[u8] = &[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00];
    let hello: &[u8] = &[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
    let all = inflate_every_way(&[bfinal, hello, bfinal, bfinal]);
    assert!(all.iter().all(|text| text.as_deref() == Ok(b"Hello")), "{all:?}");
}

#[test]
fn deflater_writes_what_the_rfc_shows() {
    for level in [1, 6] {
        let mut deflater = Deflater::new(level, 15);
        let mut out = Vec::new();
        deflater.deflate(b"Hello", &mut out);
        assert_eq!(out, [0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00], "§7.2.3.1, level {level}");
        for _ in 0..2 {
            out.clear();
            deflater.deflate(b"", &mut out);
            assert_eq!(out, [0x00], "§7.2.3.6");
        }
    }
    let mut out = b"before".to_vec();
    Deflater::new(6, 9).deflate(b"Hello", &mut out);
    assert_eq!(&out[..6], b"before", "a message is appended");
}

#[test]
fn messages_come_back_with_every_window_level_and_takeover() {
    let seed = fastrand::u64(..);
    let mut random = fastrand::Rng::with_seed(seed);
    for window_bits in 9..=15 {
        for takeover in [false, true] {
            let level = random.u8(0..=9);
            let context = format!("seed {seed}, {window_bits} bits, level {level}, {takeover}");
            let mut deflater = Deflater::new(level, window_bits);
            let mut inflater = Inflater::new();
            let mut history = Vec::new();
            for _ in 0..if cfg!(miri) { 2 } else { 24 } {
                let len_bits = random.u32(0..if cfg!(miri) { 8 } else { 18 });
                let len = random.usize(0..1 << len_bits);
                let payload = sample(&mut random, len);
                let mut message = Vec::new();
                if !takeover {
                    deflater.reset();
                    inflater.reset();
                    history.clear();
                }
                deflater.deflate(&payload, &mut message);
                let step = 1 << random.u32(4..14);
                let text = inflate_stepwise(&mut inflater, &message, step, step);
                assert!(text.as_ref() == Ok(&payload), "{context}, {len} bytes");

                let start = history.len();
                let distance_max = model::inflate(&[&message[..], &TAIL].concat(), &mut history);
                assert!(history[start..] == payload, "{context}: the model reads the same");
                assert!(distance_max.unwrap() <= 1 << window_bits, "{context}: within the window");
            }
        }
    }
}

#[test]
fn every_size_of_a_message_comes_back() {
    // Sizes at which the compressed form just fits or just misses the room of a step.
    let seed = fastrand::u64(..);
    let mut random = fastrand::Rng::with_seed(seed);
    let mut deflater = Deflater::new(1, 12);
    let mut inflater = Inflater::new();
    let noise: Vec<u8> = std::iter::repeat_with(|| random.u8(..)).take(17 * 1024).collect();
    let sizes = if cfg!(miri) { 0..8 } else { 0..1024 };
    let near_step = if cfg!(miri) { 0..0 } else { 16 * 1024 - 128..16 * 1024 + 32 };
    for len in sizes.chain(near_step) {
        let mut message = Vec::new();
        deflater.deflate(&noise[..len], &mut message);
        // Level 1 knows codes of 9 bits for a byte and does not store instead.
        assert!(message.len() <= len + len / 8 + 16, "{len} bytes became {}", message.len());
        let text = inflate(&mut inflater, &message);
        assert!(text.as_deref() == Ok(&noise[..len]), "seed {seed}, {len} bytes");
    }
}

#[test]
fn pd01_bomb_stops_at_every_byte_of_output() {
    let zeros = vec![0; if cfg!(miri) { 4096 } else { 1024 * 1024 }];
    let mut bomb = Vec::new();
    Deflater::new(9, 15).deflate(&zeros, &mut bomb);
    assert!(bomb.len() < zeros.len() / 100);
    let limits = (0..if cfg!(miri) { 20 } else { 600 })
        .chain([4095, 4096])
        .chain((1..16).map(|n| n * 65536 + n));
    for limit in limits.filter(|limit| *limit <= zeros.len()) {
        let mut inflater = Inflater::new();
        let mut room = vec![0xAA; limit + 1];
        let (consumed, produced) = inflater.push(&bomb, &mut room[..limit]).unwrap();
        assert_eq!(produced, limit);
        assert_eq!(room[limit], 0xAA, "nothing is written behind the slice");
        assert!(room[..limit].iter().all(|byte| *byte == 0));
        // What is behind the limit is still there, and comes when it is asked for.
        let rest = inflate(&mut inflater, &bomb[consumed..]).unwrap();
        assert_eq!(rest.len(), zeros.len() - limit);
    }
}

#[test]
fn pd03_malformed_data_is_refused_and_nothing_is_read_after_it() {
    let far = [0xf2, 0x48, 0x02, 0x00, 0x11, 0x00];
    for (what, message) in [
        ("block type 3", &[0x06][..]),
        ("block type 3 with BFINAL", &[0x07]),
        ("stored length and its complement differ", &[0x00, 0x05, 0x00, 0x05, 0x00, 0x48]),
        ("distance before the start", &[0xf2, 0x00, 0x11, 0x00, 0x00]),
        ("distance beyond what was sent", &far),
        ("too many lengths", &[0xfc, 0x00, 0x00]),
        ("incomplete code of lengths", &[0x04, 0x00, 0x24, 0x49]),
        ("incomplete code", &[0x04, 0x80, 0x49, 0x92, 0x24, 0x49, 0x92, 0x24, 0x71, 0xff, 0xff]),
        ("reserved distance", &[0x4a, 0x04, 0x3e, 0x00]),
        ("text", b"Hello, this is no compressed message at all"),
    ] {
        let result = inflate_every_way(&[message]).remove(0);
        assert_eq!(result, Err(Violation::MalformedDeflate), "{what}");

        let mut inflater = Inflater::new();
        assert!(inflate(&mut inflater, message).is_err());
        assert_eq!(inflater.state, InflaterState::Failed);
        let calls = (inflater.stream.total_in(), inflater.stream.total_out());
        for input in [&b""[..], &TAIL, &[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00]] {
            let again = inflater.push(input, &mut [0; 64]);
            assert_eq!(again, Err(Violation::MalformedDeflate));
        }
        let now = (inflater.stream.total_in(), inflater.stream.total_out());
        assert_eq!(now, calls, "zlib was not called again");

        inflater.reset();
        let hello = inflate(&mut inflater, &[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00]);
        assert_eq!(hello.as_deref(), Ok(&b"Hello"[..]), "a reset makes it usable: {what}");
    }
}

#[test]
fn pd03_mutated_messages_never_panic_and_every_split_judges_alike() {
    let seed = fastrand::u64(..);
    let mut random = fastrand::Rng::with_seed(seed);
    for _ in 0..if cfg!(miri) { 2 } else { 300 } {
        let len = random.usize(1..600);
        let payload = sample(&mut random, len);
        let mut message = Vec::new();
        Deflater::new(random.u8(0..=9), 15).deflate(&payload, &mut message);
        for _ in 0..random.usize(1..4) {
            let at = random.usize(..message.len());
            message[at] ^= 1 << random.u8(..8);
        }
        let zlib = inflate_every_way(&[&message]).remove(0);
        let mut text = Vec::new();
        let model = model::inflate(&[&message[..], &TAIL].concat(), &mut text);
        if let (Ok(zlib), Some(_)) = (&zlib, model) {
            assert!(*zlib == text, "seed {seed}: both read {message:02x?}, not alike");
        }
    }
}

#[test]
fn pd05_many_tiny_blocks_are_read_without_depth() {
    let count = if cfg!(miri) { 64 } else { 256 * 1024 };
    // Empty blocks with fixed codes, with and without BFINAL; and stored ones.
    for (block, what) in [
        (&[0x02, 0x08, 0x20, 0x80, 0x00][..], "fixed"),
        (&[0x03, 0x00], "fixed with BFINAL"),
        (&[0x00, 0x00, 0x00, 0xff, 0xff], "stored"),
        (&[0x01, 0x00, 0x00, 0xff, 0xff], "stored with BFINAL"),
    ] {
        let message = [&block.repeat(count)[..], &[0x00]].concat();
        let mut inflater = Inflater::new();
        assert_eq!(inflate(&mut inflater, &message), Ok(Vec::new()), "{what}");
    }
}

/// Runs in a process of its own: memory belongs to a process, and other tests allocate too.
#[test]
#[cfg_attr(miri, ignore = "it starts a process and reads its memory from the kernel")]
fn engines_hold_the_memory_they_say() {
    const CHILD: &str = "LONGWIRE_TEST_DEFLATE_MEMORY";
    const COUNT: usize = 64;
    if std::env::var_os(CHILD).is_none() {
        let name = std::thread::current().name().unwrap().to_owned();
        let child = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", &name, "--test-threads=1", "--nocapture"])
            .env(CHILD, "1")
            .output()
            .unwrap();
        assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stderr));
        eprintln!("{}", String::from_utf8_lossy(&child.stderr));
        return;
    }
    let held = |make: &dyn Fn() -> Box<dyn fmt::Debug>| {
        let before = data_bytes();
        let engines: Vec<_> = std::iter::repeat_with(make).take(COUNT).collect();
        let held = (data_bytes() - before) / engines.len();
        eprintln!("{:?}: {held} bytes", engines[0]);
        // Were they freed, the next ones would be made of their memory.
        std::mem::forget(engines);
        held
    };
    // The budget must not count too little, nor much more than there is.
    const ROUNDING: usize = 8 * 1024;
    let inflater = held(&|| Box::new(Inflater::new()));
    let within = |held: usize, said: usize| held <= said && said < held + ROUNDING;
    assert!(within(inflater, Inflater::HELD_BYTES), "{inflater}");
    for window_bits in 9..=15 {
        let deflater = held(&|| Box::new(Deflater::new(6, window_bits)));
        let said = Deflater::held_bytes(window_bits);
        assert!(within(deflater, said), "{window_bits} bits: {deflater}, not {said}");
    }
}

/// Bytes of writable memory this process has mapped.
fn data_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmData:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse::<usize>().unwrap() * 1024
}
