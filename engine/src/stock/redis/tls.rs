//! TLS to the servers: rustls, checked against the system's certificates or given ones.

use std::sync::Arc;

use fred::rustls::crypto::ring;
use fred::rustls::pki_types::CertificateDer;
use fred::rustls::pki_types::pem::PemObject;
use fred::rustls::{ClientConfig, RootCertStore};
use fred::rustls_native_certs::load_native_certs;
use fred::types::config::{TlsConfig, TlsConnector};

use crate::config::RedisTls;

pub fn connector(tls: &RedisTls) -> Result<TlsConfig, String> {
    let mut roots = RootCertStore::empty();
    match &tls.ca {
        Some(pem) => {
            for found in CertificateDer::pem_slice_iter(pem) {
                let certificate = found.map_err(|e| format!("stock.redis.tls_ca_file: {e}"))?;
                roots
                    .add(certificate)
                    .map_err(|e| format!("stock.redis.tls_ca_file: {e}"))?;
            }
        }
        None => {
            // One that cannot be read is none that a server of ours must have.
            roots.add_parsable_certificates(load_native_certs().certs);
        }
    }
    if roots.is_empty() {
        return Err(
            "no certificate to check the stock's servers against; name one in \
                    stock.redis.tls_ca_file"
                .to_owned(),
        );
    }
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|e| format!("set up TLS: {e}"))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(config).into())
}
