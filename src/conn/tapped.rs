//! What a connection shows of itself to those who look for a fault.
//!
//! Each place that receives or queues a frame looks at `Core::taps` first, which is empty but for the
//! time of such a look; only then is anything here called.

use std::num::NonZeroU32;

use crate::proto::{Header, Opcode};
use crate::tap::{Shown, TapDirection};

use super::{Collected, Connection, Core};

impl Connection {
    /// Its frames are shown as those of this slot, or no longer.
    pub(crate) fn set_tapped(&mut self, index: Option<u32>) {
        if index.is_some() || self.extras.is_some() {
            self.extras_mut().tapped =
                index.and_then(|index| NonZeroU32::new(index.wrapping_add(1)));
        }
    }

    /// Shows a frame, if it is one of those that are shown.
    #[cold]
    pub(crate) fn show(&self, shown: &Shown<'_>, core: &Core) {
        let tapped = self.extras.as_ref().and_then(|extras| extras.tapped);
        if let (Some(tapped), Some(taps)) = (tapped, &core.taps) {
            taps.show(tapped.get() - 1, shown);
        }
    }

    /// Shows a frame whose payload is still to come.
    #[cold]
    pub(super) fn show_header(&self, header: &Header, core: &Core) {
        let shown = Shown {
            direction: TapDirection::In,
            opcode: header.opcode,
            fin: header.fin,
            compressed: header.rsv1,
            assembled: false,
            payload_bytes: header.payload_len,
            payload: None,
        };
        self.show(&shown, core);
    }

    /// Shows a message that has come in pieces.
    #[cold]
    pub(super) fn show_collected(&self, collected: &Collected, core: &Core) {
        let (start, end) = Collected::payload_range(collected.len);
        let payload = collected.block.bytes().get(start..end).unwrap_or_default();
        let opcode = collected.kind.opcode();
        self.show(&Shown { assembled: true, ..Shown::received(opcode, payload) }, core);
    }

    /// Shows the answer to a ping, or what else is no message.
    #[cold]
    pub(super) fn show_control(&self, opcode: Opcode, payload: &[u8], core: &Core) {
        self.show(&Shown::sent(opcode, payload), core);
    }
}
