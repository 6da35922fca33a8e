//! A line to the database: drawn when it is needed, given up when in doubt.
//!
//! Every question has a limit, here and on the server, so that a database that
//! stands still is "away" like one that is gone. What was asked on a line that broke
//! may have happened or not; the mark tells. How long to wait between two tries is
//! not decided here (`worker.rs`).

use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::task::AbortHandle;
use tokio::time::timeout;
use tokio_postgres::config::{SslMode, TargetSessionAttrs};
use tokio_postgres::{Client, Error, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::migrate::migrate;
use super::sql::{ROLLBACK, Statements};
use super::tls;
use super::verdict::{Verdict, verdict};
use crate::config::{PostgresConfig, Tls};
use crate::stream::store::StoreError;

/// Meetings with other transactions in a row, each tried again at once.
const CONFLICTS_MAX: usize = 5;
/// A silent line is asked for a sign of life, so that firewalls do not forget it.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// What went wrong with a question.
pub(super) enum Trouble {
    Db(Error),
    Store(StoreError),
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Self::Db(error)
    }
}

impl From<StoreError> for Trouble {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// What questions are asked with.
pub(super) struct Link {
    pub client: Client,
    pub sql: Statements,
    _driven: Driven,
}

/// What carries questions and answers, for as long as somebody may ask.
struct Driven(AbortHandle);

impl Drop for Driven {
    fn drop(&mut self) {
        // Asked to go, it would first wait for the answer that nobody waits for.
        self.0.abort();
    }
}

pub(super) struct Line {
    target: Target,
    /// Drives the line while somebody waits for an answer, and only then. There until
    /// the drop.
    runtime: Option<Runtime>,
    link: Option<Link>,
}

/// Where a line leads.
struct Target {
    config: tokio_postgres::Config,
    tls: Option<MakeRustlsConnect>,
    connect_max: Duration,
    /// What the server is told, too: no question on this line takes longer.
    statement_max: Duration,
}

impl Line {
    pub fn new(config: &PostgresConfig) -> Result<Self, String> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|e| format!("start a runtime: {e}"))?;
        Ok(Self {
            target: Target::new(config)?,
            runtime: Some(runtime),
            link: None,
        })
    }

    /// Asks one question, which may be asked twice without harm.
    pub fn ask<T>(
        &mut self,
        question: impl AsyncFn(&Link) -> Result<T, Trouble>,
    ) -> Result<T, StoreError> {
        let said = self.ask_until_said(question);
        if self.link.is_none()
            && let Some(runtime) = &self.runtime
        {
            // The next question may be far off: what was given up hangs up now.
            runtime.block_on(tokio::task::yield_now());
        }
        said
    }

    fn ask_until_said<T>(
        &mut self,
        question: impl AsyncFn(&Link) -> Result<T, Trouble>,
    ) -> Result<T, StoreError> {
        let limit = self.target.statement_max;
        let runtime = self.runtime.as_ref().expect("it is there until the drop");
        let mut n_conflicts = 0;
        loop {
            let old = self.link.take().filter(|link| !link.client.is_closed());
            let was_old = old.is_some();
            let link = match old {
                Some(link) => link,
                None => runtime.block_on(self.target.draw())?,
            };
            let asked = runtime.block_on(async { timeout(limit, question(&link)).await });
            let error = match asked {
                Ok(Ok(answer)) => {
                    self.link = Some(link);
                    return Ok(answer);
                }
                Ok(Err(Trouble::Store(error))) => return Err(error),
                Ok(Err(Trouble::Db(error))) => error,
                Err(_) => return Err(silent(limit)),
            };
            // It broke while nobody looked, by a restart of the server for instance.
            if was_old && link.client.is_closed() {
                continue;
            }
            let why = say(&error);
            match error.code().map(verdict) {
                Some(Verdict::Poison) => {
                    self.link = runtime.block_on(tidied(link, limit));
                    return Err(StoreError::Poison { row: None, why });
                }
                Some(Verdict::Again) if n_conflicts < CONFLICTS_MAX => {
                    self.link = runtime.block_on(tidied(link, limit));
                    n_conflicts += 1;
                }
                Some(Verdict::Damaged) => return Err(StoreError::Damaged(why)),
                Some(Verdict::Again | Verdict::Away) | None => return Err(StoreError::Away(why)),
            }
        }
    }
}

/// A line that said "no" is as good as before, once nothing is left open on it.
async fn tidied(link: Link, limit: Duration) -> Option<Link> {
    let closed = timeout(limit, link.client.batch_execute(ROLLBACK)).await;
    matches!(closed, Ok(Ok(()))).then_some(link)
}

impl Target {
    fn new(config: &PostgresConfig) -> Result<Self, String> {
        let mut target = tokio_postgres::Config::new();
        target
            .host(&config.host)
            .port(config.port)
            .dbname(&config.database)
            .user(&config.user)
            .application_name("floodgate")
            .connect_timeout(config.connect_max)
            .keepalives_idle(KEEPALIVE)
            .tcp_user_timeout(config.statement_max)
            // After a failover a name may still lead to the server that was demoted.
            .target_session_attrs(TargetSessionAttrs::ReadWrite)
            .ssl_mode(match config.tls {
                Tls::Disable => SslMode::Disable,
                Tls::Require | Tls::VerifyFull(_) => SslMode::Require,
            });
        if let Some(password) = &config.password {
            target.password(password.reveal());
        }
        Ok(Self {
            config: target,
            tls: tls::connector(&config.tls)?,
            connect_max: config.connect_max,
            statement_max: config.statement_max,
        })
    }

    async fn draw(&self) -> Result<Link, StoreError> {
        let (client, driven) = timeout(self.connect_max, self.connect())
            .await
            .map_err(|_| silent(self.connect_max))?
            .map_err(|e| StoreError::Away(say(&e)))?;
        match timeout(self.statement_max, self.prepare(&client)).await {
            Ok(Ok(sql)) => Ok(Link {
                client,
                sql,
                _driven: driven,
            }),
            Ok(Err(Trouble::Store(error))) => Err(error),
            Ok(Err(Trouble::Db(error))) => Err(StoreError::Away(say(&error))),
            Err(_) => Err(silent(self.statement_max)),
        }
    }

    async fn connect(&self) -> Result<(Client, Driven), Error> {
        Ok(match &self.tls {
            None => {
                let (client, line) = self.config.connect(NoTls).await?;
                (client, drive(line))
            }
            Some(tls) => {
                let (client, line) = self.config.connect(tls.clone()).await?;
                (client, drive(line))
            }
        })
    }

    async fn prepare(&self, client: &Client) -> Result<Statements, Trouble> {
        // An engine that is frozen must not keep the mark's row to itself.
        let ms = self.statement_max.as_millis();
        let limits = format!(
            "SET statement_timeout = {ms}; SET idle_in_transaction_session_timeout = {ms};
             SET client_min_messages = 'error'"
        );
        client.batch_execute(&limits).await?;
        // Whichever line is drawn first: a database may have been put back to a day when
        // its schema was older, and the other lines need not notice.
        migrate(client).await?;
        Ok(Statements::prepare(client).await?)
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        // Wherever it is dropped, nobody waits for it.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

fn drive(line: impl Future<Output = Result<(), Error>> + Send + 'static) -> Driven {
    let task = tokio::spawn(async move {
        if let Err(error) = line.await {
            tracing::debug!(why = say(&error), "a line to the order store broke");
        }
    });
    Driven(task.abort_handle())
}

fn silent(limit: Duration) -> StoreError {
    StoreError::Away(format!("no answer within {} ms", limit.as_millis()))
}

/// The server's message and SQLSTATE without its detail, which quotes buyers' rows.
fn say(error: &Error) -> String {
    if let Some(db) = error.as_db_error() {
        return format!("{} (SQLSTATE {})", db.message(), db.code().code());
    }
    let mut said = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        said.push_str(&format!(": {error}"));
        cause = error.source();
    }
    said
}
