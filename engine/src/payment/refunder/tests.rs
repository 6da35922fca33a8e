use std::collections::BTreeMap;

use parking_lot::Mutex;
use prometheus::Registry;

use super::*;
use crate::payment::breaker::BreakerLimits;
use crate::payment::desk::{DeskError, Done};
use crate::payment::provider::{Answered, Ask, Provider, ProviderError, Session};
use crate::payment::testing::payment;
use crate::sale::Owed;

/// A ledger of payments, which may fail to commit.
#[derive(Default)]
struct Books {
    due: Mutex<BTreeMap<PaymentId, Payment>>,
    refunded: Mutex<BTreeMap<PaymentId, String>>,
    commits_fail: Mutex<u32>,
    reads_fail: Mutex<u32>,
    /// The most that anybody wanted to read at once.
    wanted_max: Mutex<usize>,
}

/// Whether one more is to fail.
fn fails(left: &Mutex<u32>) -> bool {
    let mut left = left.lock();
    let fails = *left > 0;
    *left = left.saturating_sub(1);
    fails
}

impl Books {
    fn with(n: usize) -> Arc<Self> {
        let books = Self::default();
        for n in 0..n {
            books.owe(payment(&format!("t{n}")));
        }
        Arc::new(books)
    }

    fn owe(&self, payment: Payment) {
        self.due.lock().insert(payment.id.clone(), payment);
    }
}

impl RefundDesk for Books {
    fn due(&self, max: usize) -> Result<Vec<Payment>, DeskError> {
        let mut wanted = self.wanted_max.lock();
        *wanted = max.max(*wanted);
        if fails(&self.reads_fail) {
            return Err(DeskError("a disk".into()));
        }
        Ok(self.due.lock().values().take(max).cloned().collect())
    }

    fn refunded<'a>(&'a self, payment: &'a Payment, refund_no: String) -> Done<'a, ()> {
        Box::pin(async move {
            if fails(&self.commits_fail) {
                return Err(DeskError("no commit in time".into()));
            }
            self.due.lock().remove(&payment.id);
            let before = self
                .refunded
                .lock()
                .insert(payment.id.clone(), refund_no.clone());
            assert!(
                before.is_none_or(|no| no == refund_no),
                "one payment, one refund"
            );
            Ok(())
        })
    }
}

/// Fails, then hangs, panics, refuses and waits as it is told; money goes back once.
#[derive(Default)]
struct Bank {
    script: Mutex<Vec<&'static str>>,
    calls: Mutex<Vec<Instant>>,
    under_way: Mutex<(usize, usize)>,
    paid_back: Mutex<BTreeMap<PaymentId, u32>>,
}

impl Provider for Bank {
    fn prepay<'a>(&'a self, _: &'a Ask) -> Answered<'a, Session> {
        unreachable!("refunds alone")
    }

    fn refund<'a>(&'a self, payment: &'a Payment) -> Answered<'a, Refund> {
        Box::pin(async move {
            self.calls.lock().push(Instant::now());
            {
                let mut under_way = self.under_way.lock();
                under_way.0 += 1;
                under_way.1 = under_way.1.max(under_way.0);
            }
            let next = self.script.lock().pop();
            tokio::time::sleep(Duration::from_millis(20)).await;
            self.under_way.lock().0 -= 1;
            match next {
                Some("fail") => Err(ProviderError("502".into())),
                Some("hang") => std::future::pending().await,
                Some("panic") => panic!("a bug of an adapter"),
                Some("refuse") => Ok(Refund::Refused {
                    why: "a person must look".into(),
                }),
                Some("pending") => Ok(Refund::Pending),
                Some(other) => unreachable!("{other}"),
                None => {
                    self.paid_back.lock().entry(payment.id.clone()).or_insert(1);
                    Ok(Refund::Refunded {
                        refund_no: format!("rf-{}", payment.id),
                    })
                }
            }
        })
    }
}

struct Scene {
    books: Arc<Books>,
    bank: Arc<Bank>,
    metrics: PaymentMetrics,
    owed: Owed,
    task: tokio::task::JoinHandle<()>,
}

fn scene(books: Arc<Books>, script: &[&'static str], config: RefunderConfig) -> Scene {
    let bank = Arc::new(Bank::default());
    bank.script.lock().extend(script.iter().rev().copied());
    let guarded = Guarded::new(
        Arc::clone(&bank) as Arc<dyn Provider>,
        BreakerLimits::default(),
        Duration::from_secs(10),
    );
    let metrics = PaymentMetrics::register(&Registry::new()).expect("metrics");
    let (owed, list) = Owed::channel();
    let refunder = Refunder::new(
        Arc::clone(&books) as Arc<dyn RefundDesk>,
        list,
        Some(Arc::new(guarded)),
        metrics.clone(),
        config,
    );
    let task = tokio::spawn(refunder.run());
    Scene {
        books,
        bank,
        metrics,
        owed,
        task,
    }
}

impl Scene {
    /// In virtual time: until nothing is owed, within a day.
    async fn settled(&self) {
        let settled = async {
            while !self.books.due.lock().is_empty() || self.metrics.refunds_due.get() > 0 {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(86_400), settled)
            .await
            .expect("every refund is done in the end");
    }

    async fn end(self) -> usize {
        assert!(!self.task.is_finished(), "it goes on");
        self.task.abort();
        let n = self.books.refunded.lock().len();
        assert_eq!(self.bank.paid_back.lock().len(), n);
        n
    }
}

#[tokio::test(start_paused = true)]
async fn what_the_ledger_owes_goes_back_at_the_start_and_no_more_than_a_few_at_once() {
    let scene = scene(Books::with(100), &[], RefunderConfig::default());
    scene.settled().await;
    assert_eq!(scene.bank.under_way.lock().1, 8);
    assert_eq!(scene.bank.calls.lock().len(), 100);
    assert_eq!(scene.end().await, 100);
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_fails_for_a_while_is_left_alone_and_then_asked_again() {
    let script = ["fail"; 40];
    let scene = scene(Books::with(3), &script, RefunderConfig::default());
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(scene.metrics.refunds_due.get(), 3);
    // Five open it; then one call each five seconds, which fails as well.
    let n_calls = scene.bank.calls.lock().len();
    assert!((6..=20).contains(&n_calls), "{n_calls} calls in a minute");
    scene.settled().await;
    assert_eq!(scene.end().await, 3);
}

#[tokio::test(start_paused = true)]
async fn hangs_panics_refusals_and_lost_commits_delay_a_refund_and_lose_none() {
    let script = [
        "hang", "refuse", "panic", "pending", "fail", "refuse", "hang",
    ];
    let books = Books::with(5);
    *books.commits_fail.lock() = 4;
    *books.reads_fail.lock() = 3;
    let scene = scene(books, &script, RefunderConfig::default());
    scene.settled().await;
    assert_eq!(scene.end().await, 5);
}

#[tokio::test(start_paused = true)]
async fn word_that_finds_no_room_is_read_from_the_ledger() {
    let config = RefunderConfig {
        due_max: 500,
        ..RefunderConfig::default()
    };
    let scene = scene(Books::with(10), &[], config);
    // More than fit on their way; nobody takes any of them meanwhile.
    for n in 10..5_000 {
        let payment = payment(&format!("t{n}"));
        scene.books.owe(payment.clone());
        scene.owed.tell(payment);
    }
    scene.settled().await;
    // However many are owed, memory holds few of them.
    assert_eq!(*scene.books.wanted_max.lock(), 501);
    assert_eq!(scene.end().await, 5_000);
}

#[tokio::test(start_paused = true)]
async fn without_a_provider_refunds_are_kept_and_shown() {
    let metrics = PaymentMetrics::register(&Registry::new()).expect("metrics");
    let (owed, list) = Owed::channel();
    let refunder = Refunder::new(
        Books::with(2),
        list,
        None,
        metrics.clone(),
        RefunderConfig::default(),
    );
    tokio::spawn(refunder.run());
    owed.tell(payment("later"));
    tokio::time::sleep(Duration::from_secs(3_600)).await;
    assert_eq!(metrics.refunds_due.get(), 3);
}
