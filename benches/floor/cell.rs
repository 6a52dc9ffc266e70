//! The cells of the echo measurement: shapes of load, and how far above the floor each may be.

/// One shape of load.
#[derive(Debug)]
pub(crate) struct Cell {
    /// As typed after `--cells`.
    pub(crate) name: &'static str,
    /// What it is, for the help text.
    pub(crate) description: &'static str,
    pub(crate) payload: Payload,
    pub(crate) payload_bytes: usize,
    pub(crate) conn_count: usize,
    /// Messages a connection has in flight.
    pub(crate) depth: usize,
    /// Largest acceptable ratio of CPU time to the floor.
    pub(crate) bar: f64,
}

/// What messages are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Payload {
    Binary,
    /// Text in which characters of one, two, three and four bytes are mixed, the dearest text to
    /// validate.
    MixedText,
}

const KIB: usize = 1024;

/// All cells, in the order of the report.
pub(crate) const CELLS: [Cell; 7] = [
    Cell {
        name: "20B-64",
        description: "20 B binary over 64 connections",
        payload: Payload::Binary,
        payload_bytes: 20,
        conn_count: 64,
        depth: 1,
        bar: 1.10,
    },
    Cell {
        name: "20B-1000",
        description: "20 B binary over 1000 connections",
        payload: Payload::Binary,
        payload_bytes: 20,
        conn_count: 1000,
        depth: 1,
        bar: 1.10,
    },
    Cell {
        name: "20B-pipelined",
        description: "20 B binary over 100 connections, 16 in flight on each",
        payload: Payload::Binary,
        payload_bytes: 20,
        conn_count: 100,
        depth: 16,
        bar: 1.5,
    },
    Cell {
        name: "1KiB",
        description: "1 KiB binary over 64 connections",
        payload: Payload::Binary,
        payload_bytes: KIB,
        conn_count: 64,
        depth: 1,
        bar: 1.10,
    },
    Cell {
        name: "16KiB",
        description: "16 KiB binary over 64 connections",
        payload: Payload::Binary,
        payload_bytes: 16 * KIB,
        conn_count: 64,
        depth: 1,
        bar: 1.15,
    },
    Cell {
        name: "16KiB-text",
        description: "16 KiB of text in mixed scripts over 64 connections",
        payload: Payload::MixedText,
        payload_bytes: 16 * KIB,
        conn_count: 64,
        depth: 1,
        bar: 1.35,
    },
    Cell {
        name: "1MiB",
        description: "1 MiB binary over 64 connections (the floor streams)",
        payload: Payload::Binary,
        payload_bytes: KIB * KIB,
        conn_count: 64,
        depth: 1,
        bar: 1.4,
    },
];

/// Bytes of the largest message of any cell; the program under test must allow as much.
pub(crate) const PAYLOAD_BYTES_MAX: usize = KIB * KIB;

/// The most connections any cell opens.
pub(crate) const CONN_COUNT_MAX: usize = 1000;
