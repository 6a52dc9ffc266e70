//! What a topic does for those who come late, and with those who read slowly.

/// How a topic treats its subscribers; chosen by [`Builder::topic_policy`](crate::Builder::topic_policy).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TopicPolicy {
    /// What becomes of messages for subscribers that read slowly.
    pub slow_readers: SlowReaders,
    /// So many of the last messages are sent to a new subscriber, oldest first. Default 0: none; with
    /// [`SlowReaders::Latest`] it is the last one, however many are asked for.
    ///
    /// Every core keeps them, from the first message on and with or without subscribers: for as long
    /// as it has subscribers itself, and for a minute after its last one has left or, without any,
    /// after the last message. Until then the topic is one of the core's
    /// [`topics_max`](crate::Builder::topics_max); a core that has as many keeps no history of
    /// another. What it costs is so many messages on each core, and up to 256 KiB of older ones.
    pub history: usize,
}

impl TopicPolicy {
    /// Every message is queued for every subscriber; see [`SlowReaders::Close`]. No history.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// What becomes of messages for subscribers that read slowly.
    #[must_use]
    pub fn slow_readers(mut self, slow_readers: SlowReaders) -> Self {
        self.slow_readers = slow_readers;
        self
    }

    /// How many of the last messages are sent to a new subscriber. Default 0.
    #[must_use]
    pub fn history(mut self, messages: usize) -> Self {
        self.history = messages;
        self
    }

    /// How many messages a new subscriber is sent.
    pub(super) fn history_count(&self) -> usize {
        match self.slow_readers {
            SlowReaders::Close | SlowReaders::DropOldest(_) => self.history,
            SlowReaders::Latest => self.history.min(1),
        }
    }

    /// Messages that are kept when all who could take them at once have.
    pub(super) fn kept_count(&self) -> usize {
        let for_slow = match self.slow_readers {
            SlowReaders::Close => 0,
            SlowReaders::DropOldest(count) => count.max(1),
            SlowReaders::Latest => 1,
        };
        for_slow.max(self.history_count())
    }
}

/// What becomes of messages for a subscriber that does not take them as fast as they come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SlowReaders {
    /// They are queued; one whose queue is full ([`send_bytes_max`](crate::Builder::send_bytes_max))
    /// is closed with 1013, or with [`Overflow::Drop`](crate::Overflow::Drop) loses them. Told by
    /// [`Delivery::refused`](crate::Delivery::refused).
    #[default]
    Close,
    /// They wait in the topic while one before them is on its way. Only so many of the last (0 counts
    /// as 1), and what was encoded in one piece with the oldest of them, are kept, once for all who
    /// wait; the others are dropped, and counted ([`Stats::dropped`](crate::Stats::dropped)).
    DropOldest(usize),
    /// Only the last message counts: while one is on its way to a subscriber, newer ones replace
    /// each other. What was replaced is counted ([`Stats::dropped`](crate::Stats::dropped)).
    Latest,
}
