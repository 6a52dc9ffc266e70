//! The messages of one topic on one core, until all subscribers have been served.
//!
//! Messages of a turn are encoded one after the other into one piece of memory, a batch; when its
//! turn has come to be sent it is sealed, and from then on shared: each subscriber's queue refers to
//! its part of it. The form in which compressed messages are sent is made when the first subscriber
//! needs it.
//!
//! ```text
//!   kept for slow readers      being served              published meanwhile
//!   |batch 3      |batch 4 |   |batch 5           |      |open ...
//!   ^ first                                       ^ sealed          ^ end
//! ```
//!
//! INVARIANT: batches are in order and without gaps, from `first` to `sealed`; those of `open` follow.
//! Numbers wrap around; what is compared is never half of all numbers apart.

use std::cell::Cell;
use std::collections::VecDeque;
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;

use crate::buf::Shared;
use crate::conn::SharedForm;
use crate::proto::{Header, encoder};

use super::Publication;

/// Bytes from which a batch takes no more messages.
const BATCH_BYTES_MAX: usize = 256 * 1024;

/// The number of a log's first message: so close to the end of all numbers that whatever is tested
/// goes past it.
const NUMBER_FIRST: u32 = 0u32.wrapping_sub(8);

/// The messages of a topic.
#[derive(Debug)]
pub(super) struct Log {
    batches: VecDeque<Batch>,
    /// Frames of messages that no subscriber has been sent yet.
    open: OpenBatch,
    first: u32,
    sealed: u32,
    alive_bytes: Rc<Cell<usize>>,
}

#[derive(Debug)]
struct Batch {
    /// The number of its first message.
    first: u32,
    entries: Vec<Entry>,
    plain: Rc<Shared>,
    deflated: Option<Rc<Shared>>,
}

/// A batch that still grows.
#[derive(Debug, Default)]
struct OpenBatch {
    entries: Vec<Entry>,
    frames: Vec<u8>,
}

#[derive(Debug)]
struct Entry {
    publication: Arc<Publication>,
    /// Where its frame ends in `plain`, and in `deflated`.
    ends: [usize; 2],
    /// Bytes of its payload and of all before it in the batch.
    payload_end: usize,
    /// Connections that were served, and those that were not, since it was last told.
    queued: usize,
    refused: usize,
    /// All subscribers have been served.
    finished: bool,
}

/// What of a log a subscriber is to be sent: the messages of these numbers.
#[derive(Debug)]
pub(crate) struct Share<'a> {
    log: &'a mut Log,
    range: Range<u32>,
}

/// Whether `a` comes before `b`.
pub(super) fn precedes(a: u32, b: u32) -> bool {
    b.wrapping_sub(a).cast_signed() > 0
}

impl Log {
    /// An empty log whose memory counts in `alive_bytes`.
    pub(super) fn new(alive_bytes: &Rc<Cell<usize>>) -> Self {
        let alive_bytes = Rc::clone(alive_bytes);
        Self {
            batches: VecDeque::new(),
            open: OpenBatch::default(),
            first: NUMBER_FIRST,
            sealed: NUMBER_FIRST,
            alive_bytes,
        }
    }

    /// Appends a message.
    pub(super) fn push(&mut self, publication: &Arc<Publication>) {
        if self.open.frames.len() >= BATCH_BYTES_MAX {
            self.seal();
        }
        self.open.push(publication);
    }

    /// The number of the oldest message that is kept.
    pub(super) fn first(&self) -> u32 {
        self.first
    }

    /// One past the number of the newest message that may be sent.
    pub(super) fn sealed(&self) -> u32 {
        self.sealed
    }

    /// One past the number of the newest message.
    pub(super) fn end(&self) -> u32 {
        self.sealed.wrapping_add(number(self.open.entries.len()))
    }

    /// Whether there are messages that have not been sealed.
    pub(super) fn has_open(&self) -> bool {
        !self.open.entries.is_empty()
    }

    /// From here on what was pushed may be sent.
    pub(super) fn seal(&mut self) {
        if !self.has_open() {
            return;
        }
        let (first, OpenBatch { entries, frames }) = (self.sealed, std::mem::take(&mut self.open));
        self.sealed = first.wrapping_add(number(entries.len()));
        let plain = Shared::new(frames, &self.alive_bytes);
        self.batches.push_back(Batch { first, entries, plain, deflated: None });
    }

    /// The messages of these numbers, which are all sealed; those that are no longer kept are left
    /// out.
    pub(super) fn share(&mut self, from: u32, to: u32) -> Share<'_> {
        let start = if precedes(from, self.first) { self.first } else { from };
        Share { log: self, range: start..to }
    }

    /// Counts connections that were queued the messages of a range, or refused them.
    pub(super) fn count(&mut self, range: Range<u32>, queued: usize, refused: usize) {
        self.each(range, |entry| {
            entry.queued += queued;
            entry.refused += refused;
        });
    }

    /// All subscribers have been served from `begin` to `end`: publishers are told, and only the last
    /// `kept_count` of these messages are kept, for those who were not ready to take them.
    pub(super) fn finish(&mut self, begin: u32, end: u32, kept_count: usize) {
        self.each(begin..end, Entry::finish);
        while let Some(batch) = self.batches.front() {
            let batch_end = batch.end();
            let count = end.wrapping_sub(batch_end) as usize;
            if precedes(end, batch_end) || count < kept_count {
                break;
            }
            self.first = batch_end;
            self.batches.pop_front();
        }
    }

    /// Calls `act` for the sealed messages of a range.
    fn each(&mut self, range: Range<u32>, mut act: impl FnMut(&mut Entry)) {
        for batch in batches_of(&mut self.batches, &range) {
            let part = batch.overlap(&range);
            batch.entries[part].iter_mut().for_each(&mut act);
        }
    }
}

impl Drop for Log {
    /// Nobody is left to be served.
    fn drop(&mut self) {
        let sealed = self.batches.iter_mut().flat_map(|batch| &mut batch.entries);
        sealed.chain(&mut self.open.entries).for_each(Entry::finish);
    }
}

impl Entry {
    fn finish(&mut self) {
        if self.queued + self.refused > 0 {
            self.publication.count(self.queued, self.refused);
            (self.queued, self.refused) = (0, 0);
        }
        if !std::mem::replace(&mut self.finished, true) {
            self.publication.finish_core();
        }
    }
}

impl OpenBatch {
    fn push(&mut self, publication: &Arc<Publication>) {
        let header = Header::whole(publication.kind.opcode(), None, publication.payload.len());
        append_frame(&mut self.frames, &header, &publication.payload);
        let before = self.entries.last().map_or(0, |entry| entry.payload_end);
        self.entries.push(Entry {
            publication: Arc::clone(publication),
            ends: [self.frames.len(), 0],
            payload_end: before + publication.payload.len(),
            queued: 0,
            refused: 0,
            finished: false,
        });
    }
}

impl Batch {
    fn end(&self) -> u32 {
        self.first.wrapping_add(number(self.entries.len()))
    }

    /// The entries that lie in a range, which has some of them.
    fn overlap(&self, range: &Range<u32>) -> Range<usize> {
        let start = if precedes(self.first, range.start) { range.start } else { self.first };
        let end = if precedes(range.end, self.end()) { range.end } else { self.end() };
        start.wrapping_sub(self.first) as usize..end.wrapping_sub(self.first) as usize
    }

    /// Makes the frames of compressed messages; those that gain nothing by it stay as they are.
    fn deflate(
        &mut self,
        compress: &mut impl FnMut(&[u8], &mut Vec<u8>) -> bool,
        alive_bytes: &Rc<Cell<usize>>,
    ) {
        let (mut frames, mut compressed) = (Vec::new(), Vec::new());
        for entry in &mut self.entries {
            let Publication { kind, payload, .. } = &*entry.publication;
            compressed.clear();
            let rsv1 = compress(payload, &mut compressed);
            let payload = if rsv1 { &compressed[..] } else { payload };
            let header = Header { rsv1, ..Header::whole(kind.opcode(), None, payload.len()) };
            append_frame(&mut frames, &header, payload);
            entry.ends[SharedForm::Deflated as usize] = frames.len();
        }
        frames.shrink_to_fit();
        self.deflated = Some(Shared::new(frames, alive_bytes));
    }

    /// Bytes of the payloads of these entries.
    fn payload_bytes_of(&self, part: Range<usize>) -> usize {
        let before = part.start.checked_sub(1).map_or(0, |last| self.entries[last].payload_end);
        self.entries[part.end - 1].payload_end - before
    }

    /// Where the frames of these entries lie.
    fn bytes_of(&self, part: Range<usize>, form: SharedForm) -> Range<usize> {
        let end_of = |index: usize| self.entries[index].ends[form as usize];
        let start = if part.start == 0 { 0 } else { end_of(part.start - 1) };
        start..end_of(part.end - 1)
    }
}

impl Share<'_> {
    /// The number of its first message.
    pub(super) fn first(&self) -> u32 {
        self.range.start
    }

    /// How many messages it has.
    pub(crate) fn len(&self) -> usize {
        self.range.end.wrapping_sub(self.range.start) as usize
    }

    /// Bytes of their payloads.
    pub(crate) fn payload_bytes(&mut self) -> usize {
        let Self { log, range } = self;
        let payload_bytes = |batch: &mut Batch| batch.payload_bytes_of(batch.overlap(range));
        batches_of(&mut log.batches, range).map(payload_bytes).sum()
    }

    /// Makes the compressed form, if it is not there yet. `compress` appends a payload in compressed
    /// form, or returns false.
    pub(crate) fn deflate(&mut self, mut compress: impl FnMut(&[u8], &mut Vec<u8>) -> bool) {
        let Self { log, range } = self;
        for batch in batches_of(&mut log.batches, range) {
            if batch.deflated.is_none() {
                batch.deflate(&mut compress, &log.alive_bytes);
            }
        }
    }

    /// Its frames, each run of them as a part of some memory.
    pub(crate) fn each_run(
        &mut self,
        form: SharedForm,
        mut act: impl FnMut(&Rc<Shared>, Range<usize>),
    ) {
        let Self { log, range } = self;
        for batch in batches_of(&mut log.batches, range) {
            let part = batch.overlap(range);
            let memory = match form {
                SharedForm::Plain => &batch.plain,
                SharedForm::Deflated => batch.deflated.as_ref().expect("it was made before"),
            };
            act(memory, batch.bytes_of(part, form));
        }
    }

    /// Its messages, one by one.
    pub(crate) fn each_message(&mut self, mut act: impl FnMut(&Publication)) {
        let range = self.range.clone();
        self.log.each(range, |entry| act(&entry.publication));
    }
}

/// The batches that have messages of a range.
fn batches_of<'a>(
    batches: &'a mut VecDeque<Batch>,
    range: &Range<u32>,
) -> impl Iterator<Item = &'a mut Batch> {
    let Range { start, end } = *range;
    // Nearly always it is the last one.
    let last = batches.len().saturating_sub(1);
    let index = match batches.back() {
        Some(batch) if !precedes(start, batch.first) => last,
        _ => batches.partition_point(|batch| !precedes(start, batch.end())),
    };
    batches.iter_mut().skip(index).take_while(move |batch| precedes(batch.first, end))
}

fn append_frame(frames: &mut Vec<u8>, header: &Header, payload: &[u8]) {
    let start = frames.len();
    frames.resize(start + encoder::frame_bytes(payload.len(), None), 0);
    encoder::encode_frame(&mut frames[start..], header, payload);
}

/// A count of messages as a distance between two numbers.
fn number(count: usize) -> u32 {
    u32::try_from(count).expect("a batch is no longer than its bytes")
}
