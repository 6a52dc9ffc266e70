//! Our side of TLS with a worker played by the test, and two kinds of peers: rustls, and one that
//! seals whatever it is told to.

use std::io::{Read as _, Write as _};
use std::sync::{Arc, LazyLock};

use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{
    CipherSuite, ClientConfig, ClientConnection, Connection, RootCertStore, ServerConfig,
    ServerConnection, SupportedProtocolVersion, version,
};

use crate::buf::{Pool, PoolConfig, RECEIVE_BLOCK_BYTES};
use crate::conn::tls::record::{OVERHEAD_BYTES, RECORD_HEADER_BYTES, RecordKey};
use crate::conn::tls::{Opened, Plaintext, Tls, sealed_bytes_max};

pub(super) const SUITES: [CipherSuite; 3] = [
    CipherSuite::TLS13_AES_128_GCM_SHA256,
    CipherSuite::TLS13_AES_256_GCM_SHA384,
    CipherSuite::TLS13_CHACHA20_POLY1305_SHA256,
];

static CERTIFIED: LazyLock<(CertificateDer<'static>, Vec<u8>)> = LazyLock::new(|| {
    let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    (certified.cert.der().clone(), certified.signing_key.serialize_der())
});

/// Configurations that trust each other; tests change what they are about.
pub(super) struct Configs {
    pub(super) server: ServerConfig,
    pub(super) client: ClientConfig,
}

impl Configs {
    pub(super) fn of(suite: CipherSuite) -> Self {
        Self::with(suite, &version::TLS13)
    }

    pub(super) fn with(suite: CipherSuite, version: &'static SupportedProtocolVersion) -> Self {
        let mut provider: CryptoProvider = ring::default_provider();
        provider.cipher_suites.retain(|known| known.suite() == suite);
        let provider = Arc::new(provider);
        let (certificate, key) = &*CERTIFIED;
        let key = PrivateKeyDer::try_from(key.clone()).unwrap();
        let mut server = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[version])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.clone()], key)
            .unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(certificate.clone()).unwrap();
        let mut client = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        server.enable_secret_extraction = true;
        client.enable_secret_extraction = true;
        Self { server, client }
    }

    /// Our server, and a client of rustls.
    pub(super) fn our_server(self) -> (Ours, Connection) {
        let peer = ClientConnection::new(Arc::new(self.client), name()).unwrap();
        (Ours::new(Tls::server(Arc::new(self.server))), peer.into())
    }

    /// Our client, and a server of rustls.
    pub(super) fn our_client(self) -> (Ours, Connection) {
        let peer = ServerConnection::new(Arc::new(self.server)).unwrap();
        (Ours::new(Tls::client(Arc::new(self.client), name()).unwrap()), peer.into())
    }
}

fn name() -> ServerName<'static> {
    ServerName::try_from("localhost").unwrap()
}

/// Our side.
pub(super) struct Ours {
    pub(super) tls: Tls,
    pub(super) pool: Pool,
    /// Records to send.
    pub(super) output: Vec<u8>,
    /// All plaintext that has come.
    pub(super) plain: Vec<u8>,
    /// Plaintext that had to be moved out of the block it was received in.
    pub(super) apart_bytes: usize,
    pub(super) ended: Option<Opened>,
}

impl Ours {
    pub(super) fn new(tls: Tls) -> Self {
        let config = PoolConfig { receive_blocks_max: 4, spare_bytes_max: 1 << 17 };
        Self {
            tls,
            pool: Pool::new(config),
            output: Vec::new(),
            plain: Vec::new(),
            apart_bytes: 0,
            ended: None,
        }
    }

    /// What a worker does with a block of at most so many bytes.
    pub(super) fn receive(&mut self, bytes: &[u8]) {
        for piece in bytes.chunks(RECEIVE_BLOCK_BYTES) {
            let mut block = piece.to_vec();
            let mut start = 0;
            while start < block.len() || (self.tls.has_more() && self.ended.is_none()) {
                let (taken, plaintext, opened) =
                    self.tls.open(&mut block[start..], &mut self.pool, &mut self.output);
                match plaintext {
                    Some(Plaintext::Received(range)) => {
                        assert_eq!(taken, block.len() - start, "nothing more is to be had of it");
                        self.plain.extend_from_slice(&block[start..][range]);
                    }
                    Some(Plaintext::Apart(apart, range)) => {
                        self.apart_bytes += range.len();
                        self.plain.extend_from_slice(&apart.bytes()[range]);
                        self.pool.give(apart);
                        start += taken;
                        continue;
                    }
                    None if matches!(opened, Opened::PeerClosed | Opened::Failed) => {
                        self.ended = Some(opened);
                    }
                    None => {}
                }
                start += taken;
            }
        }
    }

    /// Seals for the next send, in place if `lead` bytes before and `room` behind allow it.
    pub(super) fn send(&mut self, plain: &[u8], lead: usize, room: usize) {
        let mut memory = [&vec![0xee; lead], plain, &vec![0xee; room]].concat();
        let mut first = Vec::new();
        let range = lead..lead + plain.len();
        let records = match self.tls.seal_in_place(&mut memory, range, &mut first) {
            Some(records) => {
                assert!(memory[..records.start].iter().all(|&byte| byte == 0xee));
                assert!(memory[records.end..].iter().all(|&byte| byte == 0xee));
                memory[records].to_vec()
            }
            None => {
                let mut out = vec![0; sealed_bytes_max(plain.len())];
                let sealed = self.tls.seal(plain, &mut out, &mut first).expect("it is established");
                out[..sealed].to_vec()
            }
        };
        self.output.extend(first);
        self.output.extend(records);
    }

    pub(super) fn take_output(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.output)
    }

    /// Nothing may be left of it.
    pub(super) fn release(mut self) {
        self.tls.release(&mut self.pool);
        assert_eq!(self.pool.lent_count(), 0, "every block has come back");
    }
}

/// Everything the peer has to send.
pub(super) fn peer_output(peer: &mut Connection) -> Vec<u8> {
    let mut bytes = Vec::new();
    while peer.wants_write() {
        peer.write_tls(&mut bytes).unwrap();
    }
    bytes
}

/// Gives the peer bytes, and returns the plaintext in them.
pub(super) fn peer_receive(peer: &mut Connection, mut bytes: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    while !bytes.is_empty() {
        peer.read_tls(&mut bytes).unwrap();
        let state = peer.process_new_packets().unwrap();
        let mut part = vec![0; state.plaintext_bytes_to_read()];
        peer.reader().read_exact(&mut part).unwrap();
        plain.extend(part);
    }
    plain
}

pub(super) fn peer_send(peer: &mut Connection, plain: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for piece in plain.chunks(16 * 1024) {
        peer.writer().write_all(piece).unwrap();
        bytes.extend(peer_output(peer));
    }
    bytes
}

/// The handshake. Returns once both sides are through and nothing is under way.
pub(super) fn shake_hands(ours: &mut Ours, peer: &mut Connection) {
    loop {
        let up = peer_output(peer);
        ours.receive(&up);
        if ours.tls.is_handshaking() {
            // Our client speaks when it is first asked.
            let (_, plaintext, _) = ours.tls.open(&mut [], &mut ours.pool, &mut ours.output);
            assert!(plaintext.is_none());
        }
        let down = ours.take_output();
        assert!(peer_receive(peer, &down).is_empty());
        if up.is_empty() && down.is_empty() {
            break;
        }
    }
    assert!(!ours.tls.is_handshaking() && !peer.is_handshaking());
}

/// A peer that knows the keys and seals whatever it is told to.
pub(super) struct Forger {
    pub(super) sealer: RecordKey,
    pub(super) opener: RecordKey,
}

impl Forger {
    pub(super) fn against(peer: Connection) -> Self {
        let secrets = match peer {
            Connection::Client(peer) => peer.dangerous_extract_secrets(),
            Connection::Server(peer) => peer.dangerous_extract_secrets(),
        };
        let secrets = secrets.unwrap();
        Self {
            sealer: RecordKey::new(secrets.tx).unwrap(),
            opener: RecordKey::new(secrets.rx).unwrap(),
        }
    }

    /// Our server after its handshake, and its peer.
    pub(super) fn of_our_server() -> (Ours, Self) {
        let (mut ours, mut peer) = Configs::of(SUITES[0]).our_server();
        shake_hands(&mut ours, &mut peer);
        (ours, Self::against(peer))
    }

    /// The same of our client.
    pub(super) fn of_our_client() -> (Ours, Self) {
        let (mut ours, mut peer) = Configs::of(SUITES[0]).our_client();
        shake_hands(&mut ours, &mut peer);
        (ours, Self::against(peer))
    }

    /// A record with this content.
    pub(super) fn record(&mut self, content_type: u8, content: &[u8]) -> Vec<u8> {
        self.inner(&[content, &[content_type]].concat())
    }

    /// A record with this content, its type, and what pads it.
    pub(super) fn inner(&mut self, inner: &[u8]) -> Vec<u8> {
        let (content, last) = inner.split_at(inner.len() - 1);
        let mut record = vec![0; content.len() + OVERHEAD_BYTES];
        record[RECORD_HEADER_BYTES..][..content.len()].copy_from_slice(content);
        self.sealer.seal(&mut record, last[0]).unwrap();
        record
    }

    /// The types and contents of records.
    pub(super) fn read(&mut self, mut records: &[u8]) -> Vec<(u8, Vec<u8>)> {
        let mut contents = Vec::new();
        while let Some(&header) = records.first_chunk::<RECORD_HEADER_BYTES>() {
            let end = RECORD_HEADER_BYTES + usize::from(u16::from_be_bytes([header[3], header[4]]));
            let mut memory = records[RECORD_HEADER_BYTES..end].to_vec();
            let (content_type, content_bytes) = self.opener.open(header, &mut memory, 0).unwrap();
            memory.truncate(content_bytes);
            contents.push((content_type, memory));
            records = &records[end..];
        }
        assert!(records.is_empty());
        contents
    }
}

/// Whether an idle connection holds no buffer.
pub(super) fn holds_nothing(ours: &Ours) -> bool {
    ours.pool.lent_count() == 0 && ours.tls.stashed_bytes() == 0
}
