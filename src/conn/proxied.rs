//! A connection that comes through a proxy: the header in which that says for whom it speaks, and
//! what is known of the client since then.

use std::net::{IpAddr, SocketAddr};

use crate::policy::admission::Admitted;
use crate::proto::proxy_header::{self, ProxyHeader};

use super::{ConnectError, Connection, Core, Input, Phase};

/// What is known of the client beside what the kernel knows.
#[derive(Debug, Default)]
pub(super) struct Client {
    addr: Option<IpAddr>,
    /// It counts for this address.
    admitted: Option<Admitted>,
}

impl Connection {
    /// The first bytes are a PROXY header. Call it before anything is received.
    pub(crate) fn expect_proxy_header(&mut self) {
        self.extras_mut().proxy_header = Some(Vec::new());
    }

    /// Whether the PROXY header is not complete.
    #[inline]
    pub(crate) fn awaits_proxy_header(&self) -> bool {
        self.extras.as_ref().is_some_and(|extras| extras.proxy_header.is_some())
    }

    /// Adds the input to the PROXY header. Returns whose it is once it is complete, or that it is
    /// nobody's. What is not a header is closed without an answer (row PX03).
    pub(crate) fn poll_proxy_header(
        &mut self,
        block: &[u8],
        input: &mut Input,
        core: &mut Core,
    ) -> Option<Option<SocketAddr>> {
        let received = input.rest(block);
        let stash = self.extras.as_mut()?.proxy_header.as_mut()?;
        let before = stash.len();
        let room = proxy_header::V2_BYTES_MAX.saturating_sub(before);
        stash.extend_from_slice(&received[..received.len().min(room)]);
        match proxy_header::parse(stash) {
            Ok(None) => {
                input.take_rest(block);
                None
            }
            Ok(Some((header, header_bytes))) => {
                input.advance(header_bytes - before);
                self.extras_mut().proxy_header = None;
                Some(match header {
                    ProxyHeader::Local => None,
                    ProxyHeader::Peer(addr) => Some(addr),
                })
            }
            Err(error) => {
                tracing::debug!(%error, "not a PROXY header");
                core.metrics.count_refusal("proxy_header");
                input.take_rest(block);
                self.give_up();
                None
            }
        }
    }

    /// Closes without a word, before anything was answered.
    pub(crate) fn give_up(&mut self) {
        debug_assert!(self.phase == Phase::Handshake, "the application does not know of it");
        self.never_open(ConnectError::ClosedEarly);
    }

    /// The client's address, if a proxy has told it.
    pub(crate) fn client_addr(&self) -> Option<IpAddr> {
        self.extras.as_ref()?.client.addr
    }

    /// A proxy has told the client's address.
    pub(crate) fn set_client(&mut self, addr: IpAddr) {
        self.extras_mut().client.addr = Some(addr);
    }

    /// It counts for an address, until that is taken.
    pub(crate) fn set_admitted(&mut self, admitted: Admitted) {
        self.extras_mut().client.admitted = Some(admitted);
    }

    /// For which address it counted.
    pub(crate) fn take_admitted(&mut self) -> Option<Admitted> {
        self.extras.as_mut()?.client.admitted.take()
    }
}
