//! The kernels a message passes through, each against what it cannot beat: unmasking against
//! `memcpy`, text against validation alone. Then one frame header and one handshake.
//!
//! Payloads stand as they do in a receive block: one behind the other, each after a masked header,
//! so none is aligned. Up to 16 KiB they fill 16 KiB, which lies in L1; 64 KiB and 1 MiB lie in L2
//! on the machines this is meant for.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput};
use longwire::bench_internals::{
    decode_header, handshake, unmask, unmask_or, unmask_text, unmask_whole_text, validate,
};

const SIZES: [usize; 5] = [64, 1 << 10, 16 << 10, 64 << 10, 1 << 20];

/// Bytes that small payloads fill together.
const BLOCK_BYTES: usize = 16 << 10;

/// Bytes a masked frame header takes in front of a short payload.
const HEADER_BYTES: usize = 6;

const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// Payloads of one length, each behind room for a header.
struct Payloads {
    buf: Vec<u8>,
    /// Where `buf` has a cache line start, as receive blocks do.
    start: usize,
    count: usize,
    frame_bytes: usize,
}

impl Payloads {
    /// As many copies of `payload` as fill a block, one at least.
    fn new(payload: &[u8]) -> Self {
        let frame_bytes = HEADER_BYTES + payload.len();
        let count = (BLOCK_BYTES / frame_bytes).max(1);
        let mut buf = vec![0; count * frame_bytes + 64];
        let start = buf.as_ptr().align_offset(64);
        for frame in buf[start..].chunks_exact_mut(frame_bytes).take(count) {
            frame[HEADER_BYTES..].copy_from_slice(payload);
        }
        Self { buf, start, count, frame_bytes }
    }

    fn throughput(&self) -> Throughput {
        Throughput::Bytes((self.count * (self.frame_bytes - HEADER_BYTES)) as u64)
    }

    /// Calls `kernel` with every payload. The buffer passes through `black_box` once for all, so
    /// that its cost is not taken for that of a short payload.
    fn for_each(&mut self, mut kernel: impl FnMut(&mut [u8])) {
        let buf = black_box(&mut self.buf[self.start..]);
        for frame in buf.chunks_exact_mut(self.frame_bytes).take(self.count) {
            kernel(&mut frame[HEADER_BYTES..]);
        }
    }
}

fn bench_unmask(c: &mut Criterion) {
    let mut group = c.benchmark_group("unmask");
    for len in SIZES {
        let mut payloads = Payloads::new(&vec![0x5a; len]);
        let mut target = Payloads::new(&vec![0; len]);
        group.throughput(payloads.throughput());
        group.bench_function(BenchmarkId::new("memcpy", len), |b| {
            b.iter(|| {
                let mut sources = payloads.buf[payloads.start..].chunks_exact(payloads.frame_bytes);
                target.for_each(|bytes| {
                    if let Some(source) = sources.next() {
                        bytes.copy_from_slice(&source[HEADER_BYTES..]);
                    }
                });
            });
        });
        group.bench_function(BenchmarkId::new("unmask", len), |b| {
            let key = black_box(KEY);
            b.iter(|| payloads.for_each(|bytes| unmask(bytes, key)));
        });
        group.bench_function(BenchmarkId::new("unmask_or", len), |b| {
            let key = black_box(KEY);
            b.iter(|| {
                let mut seen = 0;
                payloads.for_each(|bytes| seen |= unmask_or(bytes, key));
                seen
            });
        });
    }
    group.finish();
}

/// `len` bytes of whole copies of `unit`, filled up with spaces.
fn text(unit: &str, len: usize) -> Vec<u8> {
    let mut bytes = unit.repeat(len / unit.len()).into_bytes();
    bytes.resize(len, b' ');
    bytes
}

fn bench_text(c: &mut Criterion) {
    let mut group = c.benchmark_group("text");
    let ascii = "{\"price\":101.25,\"size\":3}\n";
    let mixed = "Gr\u{fc}\u{df}e aus K\u{f6}ln, 5 \u{20ac} \u{1f600} \u{4f60}\u{597d}\n";
    // The zero key costs the same as any and leaves the text valid for the next round.
    let key = black_box([0; 4]);
    for (name, unit) in [("ascii", ascii), ("mixed", mixed)] {
        for len in SIZES {
            let mut payloads = Payloads::new(&text(unit, len));
            group.throughput(payloads.throughput());
            group.bench_function(BenchmarkId::new(format!("validate_{name}"), len), |b| {
                b.iter(|| payloads.for_each(|bytes| assert!(validate(bytes))));
            });
            group.bench_function(BenchmarkId::new(format!("unmask_whole_text_{name}"), len), |b| {
                b.iter(|| payloads.for_each(|bytes| assert!(unmask_whole_text(bytes, key))));
            });
            group.bench_function(BenchmarkId::new(format!("unmask_text_{name}"), len), |b| {
                b.iter(|| payloads.for_each(|bytes| assert!(unmask_text(bytes, key))));
            });
        }
    }
    group.finish();
}

fn bench_header(c: &mut Criterion) {
    const FRAME_COUNT: usize = 1000;
    let mut group = c.benchmark_group("header");
    group.throughput(Throughput::Elements(FRAME_COUNT as u64));
    for (name, header) in [
        ("small", &[0x82, 0x80, 0x37, 0xfa, 0x21, 0x3d][..]),
        ("medium", &[0x82, 0xfe, 0x01, 0x00, 0x37, 0xfa, 0x21, 0x3d]),
        ("large", &[0x82, 0xff, 0, 0, 0, 0, 0, 1, 0, 0, 0x37, 0xfa, 0x21, 0x3d]),
    ] {
        let bytes = header.repeat(FRAME_COUNT);
        group.bench_function(BenchmarkId::new("decode", name), |b| {
            b.iter(|| {
                let mut rest = black_box(&bytes[..]);
                let mut payload_bytes = 0;
                while let Some((header_bytes, payload_len)) = decode_header(rest) {
                    payload_bytes += payload_len;
                    rest = &rest[header_bytes..];
                }
                assert!(rest.is_empty());
                payload_bytes
            });
        });
    }
    group.finish();
}

/// What a current browser sends, with headers of the usual kinds and lengths.
const BROWSER_HEAD: &[u8] = b"GET /feed?room=42 HTTP/1.1\r\n\
    Host: stream.example.org\r\n\
    Connection: Upgrade\r\n\
    Pragma: no-cache\r\n\
    Cache-Control: no-cache\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/140.0.0.0\r\n\
    Upgrade: websocket\r\n\
    Origin: https://www.example.org\r\n\
    Sec-WebSocket-Version: 13\r\n\
    Accept-Encoding: gzip, deflate, br, zstd\r\n\
    Accept-Language: en-GB,en;q=0.9,de;q=0.8\r\n\
    Cookie: session=0123456789abcdef0123456789abcdef\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
    Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\r\n";

fn bench_handshake(c: &mut Criterion) {
    let mut group = c.benchmark_group("handshake");
    group.throughput(Throughput::Bytes(BROWSER_HEAD.len() as u64));
    let mut answer = Vec::new();
    assert!(handshake(BROWSER_HEAD, &mut answer) > 0, "the head is accepted");
    group.bench_function("browser_head", |b| {
        b.iter(|| handshake(black_box(BROWSER_HEAD), &mut answer));
    });
    group.finish();
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    bench_unmask(&mut criterion);
    bench_text(&mut criterion);
    bench_header(&mut criterion);
    bench_handshake(&mut criterion);
    criterion.final_summary();
}
