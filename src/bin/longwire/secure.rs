//! TLS of the program: certificates from flags, and what reloads them.

use longwire::{ClientAuth, Error, Tls, TlsWatcher, self_signed};

use crate::args::TlsArgs;
use crate::say::{complain, say};

/// The TLS that was asked for, if any.
pub(crate) fn tls(args: &TlsArgs) -> Result<Option<Tls>, Error> {
    let tls = if args.tls_self_signed {
        let (certificate, key) = self_signed(&[]).map_err(misuse)?;
        Tls::from_pem(certificate.as_bytes(), key.as_bytes()).map_err(misuse)?
    } else {
        let mut pairs = args.tls_cert.iter().zip(&args.tls_key);
        if args.tls_cert.len() != args.tls_key.len() {
            return Err(Error::Misuse(format!(
                "{} of --tls-cert and {} of --tls-key; give one key for each certificate",
                args.tls_cert.len(),
                args.tls_key.len()
            )));
        }
        let Some((certificate, key)) = pairs.next() else {
            return without_certificate(args).map(|()| None);
        };
        let mut tls = Tls::from_files(certificate, key).map_err(misuse)?;
        for (certificate, key) in pairs {
            tls = tls.add_certificate_files(certificate, key).map_err(misuse)?;
        }
        tls
    };
    let tls = match &args.tls_client_ca {
        None => tls,
        Some(file) => {
            let required = args.tls_client_required;
            let mode = if required { ClientAuth::Required } else { ClientAuth::Optional };
            tls.client_auth(file, mode).map_err(misuse)?
        }
    };
    for warning in tls.warnings() {
        tracing::warn!("{warning}");
    }
    Ok(Some(tls))
}

/// Nothing may have been asked for that takes TLS: it would be as if it were there.
fn without_certificate(args: &TlsArgs) -> Result<(), Error> {
    let flag = match (args.listen_tls.first(), &args.tls_client_ca) {
        (Some(addr), _) => format!("--listen-tls {addr}"),
        (None, Some(file)) => format!("--tls-client-ca {}", file.display()),
        (None, None) => return Ok(()),
    };
    Err(Error::Misuse(format!(
        "{flag} needs a certificate: --tls-cert and --tls-key, or --tls-self-signed to try it"
    )))
}

/// Takes up changed files by itself, for as long as the watcher lives.
pub(crate) fn watch(tls: &Tls) -> Result<TlsWatcher, Error> {
    TlsWatcher::start(tls).map_err(|source| Error::Worker { worker: 0, source })
}

/// Takes up changed files now; what is wrong with them leaves everything as it was.
pub(crate) fn reload(tls: &Tls) {
    match tls.reload() {
        Ok(reloaded) => {
            say(format_args!("read the certificates again: {reloaded}"));
            for warning in &reloaded.warnings {
                tracing::warn!("{warning}");
            }
        }
        Err(error) => complain(format_args!("the certificates stay as they are: {error}")),
    }
}

fn misuse(error: longwire::TlsError) -> Error {
    Error::Misuse(error.to_string())
}
