//! Signatures of callbacks as Standard Webhooks has them: `v1,` and the base64 of
//! HMAC-SHA256 over `id.timestamp.body`, with a secret that is written `whsec_<base64>`.

use std::fmt;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::hmac;
use thiserror::Error;

#[derive(Debug, Error)]
pub enum SecretError {
    #[error("payment secret {path}: {source}")]
    Read {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("payment secret {path}: the first line is not whsec_ and base64")]
    Form { path: PathBuf },
}

/// The provider's key; never shown.
#[derive(Clone)]
pub struct Secret(hmac::Key);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl Secret {
    /// The first line of the file: the newest secret.
    pub fn read(path: &Path) -> Result<Self, SecretError> {
        let text = std::fs::read_to_string(path).map_err(|source| SecretError::Read {
            path: path.to_owned(),
            source,
        })?;
        let line = text.lines().next().unwrap_or_default();
        Self::parse(line).ok_or_else(|| SecretError::Form {
            path: path.to_owned(),
        })
    }

    pub fn parse(text: &str) -> Option<Self> {
        let key = STANDARD.decode(text.trim().strip_prefix("whsec_")?).ok()?;
        (!key.is_empty()).then(|| Self(hmac::Key::new(hmac::HMAC_SHA256, &key)))
    }

    /// The value of `webhook-signature`.
    pub fn sign(&self, id: &str, unix_s: i64, body: &[u8]) -> String {
        let mut context = hmac::Context::with_key(&self.0);
        context.update(format!("{id}.{unix_s}.").as_bytes());
        context.update(body);
        format!("v1,{}", STANDARD.encode(context.sign()))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// The vector that the reference libraries of Standard Webhooks publish.
    #[test]
    fn the_published_vector_comes_out() {
        let secret = Secret::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let id = "msg_p5jXN8AQM9LWM0D4loKWxJek";
        assert_eq!(
            secret.sign(id, 1_614_265_330, b"{\"test\": 2432232314}"),
            "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
        );
    }

    #[test]
    fn the_first_line_of_the_file_is_the_secret_and_stays_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("payment-secret");
        std::fs::write(&path, "whsec_c2VjcmV0\nwhsec_b2xk\n").unwrap();
        let secret = Secret::read(&path).unwrap();
        let newest = Secret::parse("whsec_c2VjcmV0").unwrap();
        assert_eq!(secret.sign("a", 1, b"x"), newest.sign("a", 1, b"x"));
        assert_eq!(format!("{secret:?}"), "Secret(…)");
        for wrong in ["", "c2VjcmV0\n", "whsec_\n", "whsec_!\n"] {
            std::fs::write(&path, wrong).unwrap();
            let error = Secret::read(&path).unwrap_err().to_string();
            assert!(error.contains("payment-secret"), "{wrong:?}: {error}");
        }
        let gone = Secret::read(&folder.path().join("none")).unwrap_err();
        assert!(gone.to_string().contains("none"), "{gone}");
    }
}
