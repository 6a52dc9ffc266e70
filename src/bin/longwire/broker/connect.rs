//! From the address of a broker to a link that is ready: TCP, TLS, and the greeting.
//!
//! Each step has a deadline. TLS checks the name that was configured; what a broker says of itself
//! before has no part in it (row BK05).

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use longwire::Error;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::address::{Address, Kind};
use super::wire::{self, Frame, Garbage, nats, redis};

/// For an address to answer. The kernel repeats itself after a second, and we do so instead.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// For TLS and the greeting.
const GREETING_TIMEOUT: Duration = Duration::from_secs(3);
/// Bytes of what a broker says in its own words that are shown.
const WORDS_BYTES_MAX: usize = 120;

pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// A link that may be used.
pub(super) struct Opened {
    pub(super) stream: Box<dyn Stream>,
    /// What has come beyond the greeting.
    pub(super) input: Vec<u8>,
    /// What the broker takes.
    pub(super) payload_bytes_max: usize,
}

/// Why there is no link. The words are for logs and have no text of clients in them.
#[derive(Debug)]
pub(super) enum Down {
    Unreachable(String),
    Timeout,
    Tls(String),
    Refused(String),
    Garbage(Garbage),
    Closed(io::Error),
    Stalled,
}

impl Down {
    pub(super) fn cause(&self) -> &'static str {
        match self {
            Self::Unreachable(_) => "unreachable",
            Self::Timeout => "timeout",
            Self::Tls(_) => "tls",
            Self::Refused(_) => "refused",
            Self::Garbage(_) => "garbage",
            Self::Closed(_) => "closed",
            Self::Stalled => "stalled",
        }
    }

    pub(super) fn why(&self) -> String {
        match self {
            Self::Unreachable(why) => why.clone(),
            Self::Timeout => "no greeting came in time".to_owned(),
            Self::Tls(why) => format!("TLS: {why}"),
            Self::Refused(words) => format!("the broker refused: {words}"),
            Self::Garbage(garbage) => format!("it does not speak as a broker: {garbage:?}"),
            Self::Closed(error) => format!("the link ended: {error}"),
            Self::Stalled => "it has stopped answering".to_owned(),
        }
    }

    /// The broker's own words, as far as they can be shown.
    pub(super) fn refused(words: &[u8]) -> Self {
        let shown = words.iter().take(WORDS_BYTES_MAX).map(|byte| match byte {
            b' '..=b'~' => char::from(*byte),
            _ => '?',
        });
        Self::Refused(shown.collect::<String>().trim_matches([' ', '\'']).to_owned())
    }
}

impl From<Garbage> for Down {
    fn from(garbage: Garbage) -> Self {
        Self::Garbage(garbage)
    }
}

impl From<io::Error> for Down {
    fn from(error: io::Error) -> Self {
        Self::Closed(error)
    }
}

/// Whose certificates are believed: of `authorities`, or else of the system.
pub(super) fn tls(authorities: Option<&Path>) -> Result<TlsConnector, Error> {
    let misuse = |error: &dyn std::fmt::Display| Error::Misuse(format!("--broker-ca: {error}"));
    let mut roots = RootCertStore::empty();
    if let Some(file) = authorities {
        let certificates = CertificateDer::pem_file_iter(file).map_err(|error| misuse(&error))?;
        for certificate in certificates {
            let certificate = certificate.map_err(|error| misuse(&error))?;
            roots.add(certificate).map_err(|error| misuse(&error))?;
        }
    } else {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    }
    if roots.is_empty() {
        return Err(misuse(&"there is no certificate to believe; give a file of them in PEM"));
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| misuse(&error))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

/// Connects, and exchanges greetings.
pub(super) async fn open(address: &Address, tls: Option<&TlsConnector>) -> Result<Opened, Down> {
    let stream = connect(&address.host, address.port).await?;
    let _ = stream.set_nodelay(true);
    let greeting = async {
        match address.kind {
            Kind::Nats => greet_nats(stream, address, tls).await,
            Kind::Redis => greet_redis(stream, address, tls).await,
        }
    };
    timeout(GREETING_TIMEOUT, greeting).await.unwrap_or(Err(Down::Timeout))
}

async fn connect(host: &str, port: u16) -> Result<TcpStream, Down> {
    let unreachable = |error: &dyn std::fmt::Display| Down::Unreachable(error.to_string());
    let addrs = timeout(GREETING_TIMEOUT, tokio::net::lookup_host((host, port))).await;
    let addrs = addrs.map_err(|_| Down::Timeout)?.map_err(|error| unreachable(&error))?;
    let mut why = Down::Unreachable(format!("{host} has no address"));
    for addr in addrs {
        why = match timeout(CONNECT_TIMEOUT, TcpStream::connect(addr)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => unreachable(&error),
            Err(_) => unreachable(&"it does not answer"),
        };
    }
    Err(why)
}

async fn encrypt(
    stream: TcpStream,
    address: &Address,
    tls: &TlsConnector,
) -> Result<Box<dyn Stream>, Down> {
    let name = ServerName::try_from(address.host.clone());
    let name = name.map_err(|error| Down::Tls(error.to_string()))?;
    let stream = tls.connect(name, stream).await.map_err(|error| Down::Tls(error.to_string()))?;
    Ok(Box::new(stream))
}

/// NATS speaks first, in the clear, and then TLS begins.
async fn greet_nats(
    mut plain: TcpStream,
    address: &Address,
    tls: Option<&TlsConnector>,
) -> Result<Opened, Down> {
    let mut input = Vec::new();
    let Heard::Info(info) = hear(&mut plain, Kind::Nats, &mut input).await? else {
        return Err(Down::Garbage(Garbage::UnknownFrame));
    };
    let mut stream: Box<dyn Stream> = match tls {
        Some(_) if !info.offers_tls => {
            return Err(Down::Tls("the broker does not offer it".to_owned()));
        }
        // What was said in the clear behind the greeting could be anybody's.
        Some(_) if !input.is_empty() => return Err(Down::Garbage(Garbage::UnknownFrame)),
        Some(tls) => encrypt(plain, address, tls).await?,
        None if info.requires_tls => {
            return Err(Down::Tls("the broker asks for it: write tls:// for nats://".to_owned()));
        }
        None => Box::new(plain),
    };
    let mut greeting = Vec::new();
    nats::greet(&mut greeting, &address.login, tls.is_some());
    stream.write_all(&greeting).await?;
    stream.flush().await?;
    while hear(&mut stream, Kind::Nats, &mut input).await? != Heard::Pong {}
    Ok(Opened { stream, input, payload_bytes_max: info.payload_bytes_max })
}

async fn greet_redis(
    plain: TcpStream,
    address: &Address,
    tls: Option<&TlsConnector>,
) -> Result<Opened, Down> {
    let mut stream: Box<dyn Stream> = match tls {
        Some(tls) => encrypt(plain, address, tls).await?,
        None => Box::new(plain),
    };
    let mut greeting = Vec::new();
    redis::greet(&mut greeting, &address.login);
    stream.write_all(&greeting).await?;
    stream.flush().await?;
    let mut input = Vec::new();
    while hear(&mut stream, Kind::Redis, &mut input).await? != Heard::Pong {}
    Ok(Opened { stream, input, payload_bytes_max: usize::MAX })
}

/// What a greeting consists of.
#[derive(PartialEq, Eq)]
enum Heard {
    Info(nats::Info),
    Pong,
    Other,
}

/// The next frame; there can be no message among them yet.
async fn hear(
    stream: &mut (impl AsyncRead + Unpin + ?Sized),
    kind: Kind,
    input: &mut Vec<u8>,
) -> Result<Heard, Down> {
    loop {
        if let Some((frame, length)) = wire::decode(kind, input, 0)? {
            let heard = match frame {
                Frame::Info(json) => Heard::Info(nats::Info::of(json).ok_or(Garbage::BadLine)?),
                Frame::Pong => Heard::Pong,
                Frame::Refused(words) => return Err(Down::refused(words)),
                Frame::Ping | Frame::Other => Heard::Other,
                Frame::Message { .. } => return Err(Garbage::UnknownFrame.into()),
            };
            input.drain(..length);
            return Ok(heard);
        }
        if stream.read_buf(input).await? == 0 {
            return Err(Down::Closed(io::ErrorKind::UnexpectedEof.into()));
        }
    }
}
