//! A client that checks what it is sent: each message of a publisher after those before it, and
//! never twice.

use std::collections::BTreeMap;

use crate::io::sim::{Net, PeerId};
use crate::proto::handshake::Upgrade;
use crate::proto::{Header, Opcode, Role, encoder};

use super::HISTORY;

/// One client.
#[derive(Debug)]
pub(super) struct Peer {
    net: Net,
    id: PeerId,
    upgrade: Upgrade,
    received: Vec<u8>,
    is_open: bool,
    /// The topic that it subscribes to as it comes.
    pub(super) topic: usize,
    pub(super) is_subscribed: bool,
    /// By topic and publisher: the number of the last message.
    pub(super) last: BTreeMap<(usize, u32), usize>,
    /// Messages that came, and numbers that did not.
    pub(super) read_count: usize,
    pub(super) skipped: usize,
}

impl Peer {
    /// A client whose request is on its way.
    pub(super) fn connect(net: &Net, target: &str) -> Self {
        let id = net.connect();
        let mut upgrade = Upgrade::new([7; 16]);
        net.peer_write(id, &upgrade.request_bytes("sim.example", target, &[], &[]));
        Self {
            net: net.clone(),
            id,
            upgrade,
            received: Vec::new(),
            is_open: false,
            topic: target[1..].parse().unwrap(),
            is_subscribed: false,
            last: BTreeMap::new(),
            read_count: 0,
            skipped: 0,
        }
    }

    /// Sends a text message.
    pub(super) fn say(&mut self, text: &str) {
        if self.is_open {
            let mask = Some([1, 2, 3, 4]);
            let mut frame = vec![0; encoder::frame_bytes(text.len(), mask)];
            let header = Header::whole(Opcode::Text, mask, text.len());
            encoder::encode_frame(&mut frame, &header, text.as_bytes());
            self.net.peer_write(self.id, &frame);
        }
    }

    pub(super) fn reset(&mut self) {
        self.net.peer_reset(self.id);
    }

    /// Reads so many bytes at most.
    pub(super) fn read(&mut self, bytes_max: usize) {
        self.net.peer_read_some(self.id, bytes_max, &mut self.received);
        if !self.is_open {
            // Whoever is refused stays outside.
            let Ok(Some(head_bytes)) = self.upgrade.parse_response(&self.received) else { return };
            self.received.drain(..head_bytes);
            self.is_open = true;
        }
        while let Some((header, start)) =
            Header::decode(&self.received, Role::Client, false).expect("frames are well-formed")
        {
            let len = usize::try_from(header.payload_len).unwrap();
            if self.received.len() < start + len {
                break;
            }
            let frame: Vec<u8> = self.received.drain(..start + len).collect();
            if header.opcode == Opcode::Text {
                self.take(str::from_utf8(&frame[start..]).expect("text is UTF-8"));
            }
        }
    }

    fn take(&mut self, text: &str) {
        let words: Vec<&str> = text.split(' ').collect();
        let [topic, publisher, number, _] = words[..] else {
            let topic: usize = words[1].parse().unwrap();
            assert_eq!(words[0], "+");
            self.is_subscribed = true;
            if topic == HISTORY {
                // The last messages come again to whoever comes again.
                self.last.retain(|(of, _), _| *of != topic);
            }
            return;
        };
        let key = (topic.parse().unwrap(), publisher.parse().unwrap());
        let number: usize = number.parse().unwrap();
        let last = self.last.entry(key).or_default();
        assert!(number > *last, "{key:?}: {number} comes after {last}");
        self.skipped += number - *last - 1;
        *last = number;
        self.read_count += 1;
    }
}
