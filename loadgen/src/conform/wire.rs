//! The connection under a case: a TCP stream, plain or inside TLS, that one thread reads while another
//! writes.
//!
//! rustls' own stream type wants one owner for both directions. Here the session is behind a lock that
//! nobody holds while he waits for the socket, or a server which answers before it reads would stop us.

use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustls::ClientConnection;

use super::tls::Secure;

const BLOCK_BYTES: usize = 16 << 10;

/// A connection; copies of it are the same one.
#[derive(Clone, Debug)]
pub(crate) enum Wire {
    Plain(Arc<TcpStream>),
    Tls(Arc<TlsStream>),
}

/// A connection inside TLS.
pub(crate) struct TlsStream {
    stream: TcpStream,
    /// Held for a whole write, so that records leave in the order in which they were sealed.
    writing: Mutex<()>,
    session: Mutex<Session>,
}

struct Session {
    tls: ClientConnection,
    /// Bytes from the socket that the session has not taken yet.
    received: Vec<u8>,
    taken: usize,
}

impl From<TcpStream> for Wire {
    fn from(stream: TcpStream) -> Self {
        Self::Plain(Arc::new(stream))
    }
}

impl Wire {
    /// Shakes hands as a TLS client; each step of it may take this long.
    pub(crate) fn secured(
        stream: TcpStream,
        secure: &Secure,
        patience: Duration,
    ) -> io::Result<Self> {
        stream.set_read_timeout(Some(patience))?;
        let mut tls = secure.connection()?;
        while tls.is_handshaking() {
            tls.complete_io(&mut &stream)?;
        }
        let session = Mutex::new(Session { tls, received: Vec::new(), taken: 0 });
        Ok(Self::Tls(Arc::new(TlsStream { stream, writing: Mutex::default(), session })))
    }

    pub(crate) fn set_read_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.tcp().set_read_timeout(timeout)
    }

    /// Ends the connection, which also wakes whoever reads.
    pub(crate) fn shutdown(&self) {
        if let Self::Tls(tls) = self {
            tls.session().tls.send_close_notify();
            // The peer may be gone already.
            let _ = tls.write(b"");
        }
        let _ = self.tcp().shutdown(Shutdown::Both);
    }

    fn tcp(&self) -> &TcpStream {
        match self {
            Self::Plain(stream) => stream,
            Self::Tls(tls) => &tls.stream,
        }
    }
}

impl Read for &Wire {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Wire::Plain(stream) => (&**stream).read(buffer),
            Wire::Tls(tls) => tls.read(buffer),
        }
    }
}

impl Write for &Wire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Wire::Plain(stream) => (&**stream).write(bytes),
            Wire::Tls(tls) => tls.write(bytes).map(|()| bytes.len()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl TlsStream {
    fn session(&self) -> MutexGuard<'_, Session> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.session().opened(buffer) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                done => return done,
            }
            let mut block = [0; BLOCK_BYTES];
            let count = (&self.stream).read(&mut block)?;
            self.session().take(&block[..count])?;
        }
    }

    /// Seals all bytes and sends them, with whatever else the session has to say.
    fn write(&self, mut bytes: &[u8]) -> io::Result<()> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let mut records = Vec::new();
            {
                let mut session = self.session();
                let count = session.tls.writer().write(bytes)?;
                bytes = &bytes[count..];
                while session.tls.wants_write() {
                    session.tls.write_tls(&mut records)?;
                }
            }
            (&self.stream).write_all(&records)?;
            if bytes.is_empty() {
                return Ok(());
            }
        }
    }
}

impl Session {
    /// Bytes that the peer sent, opened; `WouldBlock` if the socket has to be read for more.
    fn opened(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.tls.reader().read(buffer) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                done => return done,
            }
            if self.taken == self.received.len() {
                return Err(ErrorKind::WouldBlock.into());
            }
            let mut rest = &self.received[self.taken..];
            self.taken += self.tls.read_tls(&mut rest)?;
            self.process()?;
        }
    }

    /// Takes over what the socket gave; nothing is its end.
    fn take(&mut self, bytes: &[u8]) -> io::Result<()> {
        debug_assert_eq!(self.taken, self.received.len());
        self.received.clear();
        self.received.extend_from_slice(bytes);
        self.taken = 0;
        if bytes.is_empty() {
            self.tls.read_tls(&mut io::empty())?;
            self.process()?;
        }
        Ok(())
    }

    fn process(&mut self) -> io::Result<()> {
        let state = self.tls.process_new_packets();
        state.map(drop).map_err(|error| io::Error::new(ErrorKind::InvalidData, error))
    }
}

impl fmt::Debug for TlsStream {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("TlsStream").field("stream", &self.stream).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::path::PathBuf;
    use std::thread;

    use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
    use rustls::{ServerConfig, ServerConnection, StreamOwned};

    use super::*;
    use crate::conform::tls::Trust;

    /// A server that sends back what it reads; its address, and a file with its certificate.
    fn echo(name: &str) -> (std::net::SocketAddr, PathBuf) {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let file = format!("loadgen-conform-{name}-{}.pem", std::process::id());
        let path = std::env::temp_dir().join(file);
        std::fs::write(&path, made.cert.pem()).unwrap();
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        let config = Arc::new(config);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let tls = ServerConnection::new(Arc::clone(&config)).unwrap();
                let mut stream = StreamOwned::new(tls, stream.unwrap());
                let mut block = [0; 4096];
                while let Ok(count @ 1..) = stream.read(&mut block) {
                    let _ = stream.write_all(&block[..count]);
                }
            }
        });
        (addr, path)
    }

    fn secured(addr: std::net::SocketAddr, host: &str, trust: Trust<'_>) -> io::Result<Wire> {
        let secure = Secure::new(host, trust).unwrap();
        Wire::secured(TcpStream::connect(addr).unwrap(), &secure, Duration::from_secs(10))
    }

    #[test]
    fn one_thread_reads_what_another_is_still_sending() {
        let (addr, path) = echo("both-ways");
        let wire = secured(addr, "localhost", Trust::File(&path)).unwrap();
        // More than both sockets hold, so that neither direction gets on without the other.
        let sent: Vec<u8> = (0..16_u32 << 20).map(|at| (at % 251).to_le_bytes()[0]).collect();
        let reader = wire.clone();
        let bytes = sent.len();
        let received = thread::spawn(move || {
            let mut received = vec![0; bytes];
            (&reader).read_exact(&mut received).unwrap();
            received
        });
        for part in sent.chunks(1 << 20) {
            (&wire).write_all(part).unwrap();
        }
        assert!(received.join().unwrap() == sent);
        wire.shutdown();
        let _ = std::fs::remove_file(path);
    }

    #[test]
    fn server_is_trusted_only_for_its_own_name_and_certificate() {
        let (addr, path) = echo("trusted");
        let (_, other) = echo("other");
        let kind = |host, trust| secured(addr, host, trust).map(drop).map_err(|error| error.kind());
        assert_eq!(kind("localhost", Trust::File(&path)), Ok(()));
        assert_eq!(kind("elsewhere.example", Trust::File(&path)), Err(ErrorKind::InvalidData));
        assert_eq!(kind("localhost", Trust::File(&other)), Err(ErrorKind::InvalidData));
        assert_eq!(kind("elsewhere.example", Trust::Anybody), Ok(()));
        let _ = (std::fs::remove_file(path), std::fs::remove_file(other));
    }

    #[test]
    fn server_without_tls_is_an_error_and_no_panic() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        thread::spawn(move || {
            let mut stream = listener.accept().unwrap().0;
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        });
        let error = secured(addr, "localhost", Trust::Anybody).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidData);
    }
}
