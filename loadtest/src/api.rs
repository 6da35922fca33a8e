//! Calls to the public and admin APIs outside the stampede: create the sale,
//! read orders, page enumerations. Patient: an engine that restarts is awaited.

use std::time::{Duration, Instant};

use thiserror::Error;

use crate::answer::problem_code;
use crate::client::{CallError, Connection, Target};
use crate::pay::wire::{Entitlement, PaymentPage};
use crate::wire::{OrderPage, Reconciliation, Sale, WireError, sales_in_phase, show_id};

#[derive(Debug, Error)]
pub enum ApiError {
    #[error("{call}: {source}")]
    Call { call: String, source: CallError },
    #[error("{call}: answered {status}: {body}")]
    Status {
        call: String,
        status: u16,
        body: String,
    },
    #[error("{call}: {source}")]
    Wire { call: String, source: WireError },
    #[error("admin token {path}: {source}")]
    Token {
        path: String,
        source: std::io::Error,
    },
    #[error("{call}: {why}")]
    Sale { call: String, why: String },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    Ledger,
    Store,
}

impl From {
    fn name(self) -> &'static str {
        match self {
            Self::Ledger => "ledger",
            Self::Store => "store",
        }
    }
}

pub struct Api {
    target: Target,
    connection: Connection,
    token: Option<String>,
    /// How long to wait for an engine that cannot be reached or is not ready.
    patience: Duration,
}

const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
const RETRY_PAUSE: Duration = Duration::from_millis(200);

impl Api {
    pub fn new(target: &Target, token: Option<String>, patience: Duration) -> Self {
        let connection = Connection::new(target.addr, ANSWER_TIMEOUT);
        Self {
            target: target.clone(),
            connection,
            token,
            patience,
        }
    }

    /// Status and body; 503 and lost connections are retried while patience lasts,
    /// so only use it for calls that may run twice.
    pub async fn call(
        &mut self,
        method: &str,
        path: &str,
        user: Option<&str>,
        body: &str,
    ) -> Result<(u16, &[u8]), ApiError> {
        let mut request = format!(
            "{method} {path} HTTP/1.1\r\nhost: {}\r\n",
            self.target.authority
        );
        if let Some(token) = &self.token {
            request.push_str(&format!("authorization: Bearer {token}\r\n"));
        }
        if let Some(user) = user {
            request.push_str(&format!("x-user-id: {user}\r\n"));
        }
        if method == "POST" {
            request.push_str(&format!(
                "content-type: application/json\r\ncontent-length: {}\r\n",
                body.len()
            ));
        }
        request.push_str("\r\n");
        request.push_str(body);
        let began = Instant::now();
        loop {
            let result = self.connection.call(request.as_bytes()).await;
            let patient = began.elapsed() < self.patience;
            match result {
                Ok(head) if head.status == 503 && patient => {}
                Ok(head) => return Ok((head.status, self.connection.body())),
                Err(CallError::Connect(_) | CallError::Cut(_) | CallError::TimedOut { .. })
                    if patient => {}
                Err(source) => {
                    return Err(ApiError::Call {
                        call: format!("{method} {path}"),
                        source,
                    });
                }
            }
            tokio::time::sleep(RETRY_PAUSE).await;
        }
    }

    async fn expect<T>(
        &mut self,
        method: &str,
        path: &str,
        body: &str,
        parse: impl Fn(&[u8]) -> Result<T, WireError>,
    ) -> Result<T, ApiError> {
        let (status, body) = self.call(method, path, None, body).await?;
        let call = || format!("{method} {path}");
        if status != 200 && status != 201 {
            let body = String::from_utf8_lossy(&body[..body.len().min(500)]).into_owned();
            return Err(ApiError::Status {
                call: call(),
                status,
                body,
            });
        }
        parse(body).map_err(|source| ApiError::Wire {
            call: call(),
            source,
        })
    }

    pub async fn create_sale(&mut self, definition: &str) -> Result<(), ApiError> {
        let path = "/admin/v1/sales";
        let (status, body) = self.call("POST", path, None, definition).await?;
        match status {
            200 | 201 => Ok(()),
            409 => Err(ApiError::Sale {
                call: format!("POST {path}"),
                why: format!(
                    "another sale has this id ({}); use --sale-id NAME for a new one, or --no-create to attack the one that is there",
                    String::from_utf8_lossy(&body[..body.len().min(500)])
                ),
            }),
            401 | 403 => Err(ApiError::Sale {
                call: format!("POST {path}"),
                why: format!(
                    "answered {status}; give the admin token with --admin-token-file or FLOODGATE_ADMIN_TOKEN"
                ),
            }),
            status => {
                let body = String::from_utf8_lossy(&body[..body.len().min(500)]).into_owned();
                Err(ApiError::Status {
                    call: format!("POST {path}"),
                    status,
                    body,
                })
            }
        }
    }

    pub async fn sale(&mut self, sale: &str) -> Result<Sale, ApiError> {
        self.expect("GET", &format!("/admin/v1/sales/{sale}"), "", Sale::parse)
            .await
    }

    /// The ids of all sales that stand there.
    pub async fn sales_in_phase(&mut self, phase: &str) -> Result<Vec<String>, ApiError> {
        let parse = |body: &[u8]| sales_in_phase(body, phase);
        self.expect("GET", "/admin/v1/sales", "", parse).await
    }

    pub async fn resume(&mut self, sale: &str) -> Result<(), ApiError> {
        let path = format!("/admin/v1/sales/{sale}/resume");
        self.expect("POST", &path, "", |_| Ok(())).await
    }

    pub async fn orders(
        &mut self,
        sale: &str,
        from: From,
        cursor: Option<&str>,
        limit: u32,
    ) -> Result<OrderPage, ApiError> {
        let mut path = format!(
            "/admin/v1/sales/{sale}/orders?from={}&limit={limit}",
            from.name()
        );
        if let Some(cursor) = cursor {
            path.push_str("&cursor=");
            path.push_str(&escape(cursor));
        }
        self.expect("GET", &path, "", OrderPage::parse).await
    }

    /// Every payment that names an order of the sale, in whatever state.
    pub async fn payments(
        &mut self,
        sale: &str,
        cursor: Option<&str>,
        limit: u32,
    ) -> Result<PaymentPage, ApiError> {
        let mut path = format!("/admin/v1/payments?sale={sale}&limit={limit}");
        if let Some(cursor) = cursor {
            path.push_str("&cursor=");
            path.push_str(&escape(cursor));
        }
        self.expect("GET", &path, "", PaymentPage::parse).await
    }

    /// What a buyer was granted; the reason, where the answer cannot be used. None from an
    /// engine that shows buyers nothing of the kind.
    pub async fn entitlements(
        &mut self,
        user: &str,
    ) -> Result<Option<Result<Vec<Entitlement>, String>>, ApiError> {
        let (status, body) = self
            .call("GET", "/v1/me/entitlements", Some(user), "")
            .await?;
        Ok(match status {
            404 => None,
            200 => Some(Entitlement::parse_all(body).map_err(|error| error.to_string())),
            _refused => Some(Err(strange(status, body))),
        })
    }

    /// What was granted for an order, as an operator sees it.
    pub async fn granted(
        &mut self,
        order: u128,
    ) -> Result<Result<Vec<Entitlement>, String>, ApiError> {
        let path = format!("/admin/v1/orders/{}", show_id(order));
        let (status, body) = self.call("GET", &path, None, "").await?;
        Ok(match status {
            200 => Entitlement::parse_of_order(body, order).map_err(|error| error.to_string()),
            _refused => Err(strange(status, body)),
        })
    }

    pub async fn reconcile(&mut self) -> Result<Reconciliation, ApiError> {
        self.expect("POST", "/admin/v1/reconcile", "", Reconciliation::parse)
            .await
    }

    /// A buyer's look at one order; the status says whether it was found.
    pub async fn order(&mut self, id: &str, user: &str) -> Result<(u16, Vec<u8>), ApiError> {
        let (status, body) = self
            .call("GET", &format!("/v1/orders/{id}"), Some(user), "")
            .await?;
        Ok((status, body.to_vec()))
    }

    /// The buyers' view of the sale must be there before the stampede begins.
    pub async fn look_at_sale(&mut self, sale: &str) -> Result<(), ApiError> {
        let path = format!("/v1/sales/{sale}");
        let (status, body) = self.call("GET", &path, None, "").await?;
        if status == 200 {
            return Ok(());
        }
        let code = problem_code(body).map(|code| String::from_utf8_lossy(code).into_owned());
        Err(ApiError::Status {
            call: format!("GET {path}"),
            status,
            body: code.unwrap_or_default(),
        })
    }
}

fn strange(status: u16, body: &[u8]) -> String {
    let body = String::from_utf8_lossy(&body[..body.len().min(200)]);
    format!("answered {status}: {body}")
}

/// Percent-encoding for a cursor, whose alphabet is the server's business.
fn escape(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    text.bytes().fold(String::new(), |mut out, byte| {
        if plain(byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
        out
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::escape;

    #[test]
    fn cursors_travel_escaped() {
        assert_eq!(escape("aZ9-_.~"), "aZ9-_.~");
        assert_eq!(escape("a+b/c=&"), "a%2Bb%2Fc%3D%26");
    }
}
