//! Whom a run over `wss://` trusts, and what to type where that fails.

use longwire::{ClientTls, Target};

use crate::args::TlsArgs;
use crate::url::Url;

/// The target over TLS, if the URL asks for that. Sessions are resumed where the server hands out
/// tickets: all connections of a run share one memory of them.
pub(crate) fn secured(target: Target, url: &Url, args: &TlsArgs) -> Result<Target, String> {
    if !url.tls {
        return match flag_typed(args) {
            Some(flag) => Err(format!("{flag} is for a wss:// URL, and `{}` is not one", url.text)),
            None => Ok(target),
        };
    }
    let tls = match &args.ca {
        Some(file) => ClientTls::with_ca_file(file).map_err(|error| error.to_string())?,
        None if args.insecure => ClientTls::insecure(),
        None => ClientTls::with_system_roots()
            .map_err(|error| format!("{error}: --ca FILE does, --insecure needs none"))?,
    };
    let name = args.tls_name.as_deref().unwrap_or(&url.name);
    target.tls(&tls, name).map_err(|error| error.to_string())
}

/// What to do about a TLS handshake that failed for this reason; begins with what separates it.
pub(crate) fn advice(why: &str) -> &'static str {
    if why.contains("UnknownIssuer") {
        return "; name the file of the authority with --ca, or take any certificate with \
                --insecure";
    }
    if why.contains("not valid for name") || why.contains("NotValidForName") {
        return "; say which name to ask for with --tls-name, or take any certificate with \
                --insecure";
    }
    if why.contains("invalid peer certificate") {
        return "; replace the certificate, or take any with --insecure";
    }
    if why.contains("corrupt message") {
        return "; if the server does not speak TLS, use ws://";
    }
    ""
}

fn flag_typed(args: &TlsArgs) -> Option<&'static str> {
    if args.insecure {
        return Some("--insecure");
    }
    if args.ca.is_some() {
        return Some("--ca");
    }
    args.tls_name.as_ref().map(|_| "--tls-name")
}
