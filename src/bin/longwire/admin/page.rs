//! `/`: the page, one file, and what browsers let it do.
//!
//! It shows what strangers have written, so its policy names the scripts and styles it has by their
//! hashes: nothing that finds its way into it runs. Attributes such as `onclick` and `style` do not
//! work in it.

use std::sync::LazyLock;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::digest;

use super::answer;

const PAGE: &str = include_str!("page.html");

/// It loads nothing from elsewhere, and nobody may frame it. It opens WebSockets to the port of the
/// server, on whatever host that is.
static POLICY: LazyLock<HeaderValue> = LazyLock::new(|| {
    let policy = format!(
        "default-src 'none'; script-src{}; style-src{}; img-src data:; \
         connect-src 'self' ws: wss:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        hashes(PAGE, "script"),
        hashes(PAGE, "style"),
    );
    HeaderValue::from_str(&policy).expect("it is made of visible ASCII characters")
});

pub(super) async fn show() -> Response {
    let mut response = answer(StatusCode::OK, "text/html; charset=utf-8", PAGE);
    response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, POLICY.clone());
    response
}

/// A source for each element of this kind, by its text (CSP Level 3 §2.3.1).
fn hashes(page: &str, element: &str) -> String {
    let (start, end) = (format!("<{element}"), format!("</{element}>"));
    let inner = |part: &str| {
        let (_, rest) = part.split_once('>')?;
        let (text, _) = rest.split_once(end.as_str())?;
        let hash = digest::digest(&digest::SHA256, text.as_bytes());
        Some(format!(" 'sha256-{}'", STANDARD.encode(hash)))
    };
    page.split(start.as_str()).skip(1).filter_map(inner).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_are_named_by_their_text() {
        let page =
            "<style>a{}</style><script type=x>alert('Hello, world.');</script><script></script>";
        // The example of CSP Level 3, and the hash of nothing.
        assert_eq!(
            hashes(page, "script"),
            " 'sha256-qznLcsROx4GACP2dm0UCKCzCG+HiZ1guq6ZZDob/Tng=' \
             'sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU='"
        );
        assert_eq!(hashes(page, "style").matches("sha256-").count(), 1);
    }

    #[test]
    fn page_keeps_to_its_policy() {
        assert!(hashes(PAGE, "script").contains("sha256-"));
        // Outside of scripts, in which such words may stand.
        let scripts: Vec<&str> = PAGE.split("<script").collect();
        let markup = scripts.iter().map(|part| part.rsplit("</script>").next().unwrap_or_default());
        for text in markup {
            for word in text.split([' ', '\n', '<']) {
                let attribute = word.split_once('=').map_or("", |(name, _)| name);
                let is_handler = attribute.starts_with("on") && attribute.len() > 3;
                assert!(!is_handler && attribute != "style" && attribute != "src", "{word}");
            }
        }
    }
}
