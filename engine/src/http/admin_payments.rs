//! Payments for people with the token: what came, what waits for a decision, and money
//! that shall go back.

use hyper::StatusCode;
use serde::{Deserialize, Serialize};

use super::admin::{Admin, no_sale};
use super::call::{Call, Unread};
use super::json;
use super::respond::{Code, Problem, Reply};
use super::wire::{AuditOrderOut, AuditPaymentOut};
use crate::domain::ids::{OrderId, PaymentId, SaleId};
use crate::domain::order::{Order, OrderEvent};
use crate::domain::payment::{Payment, PaymentState};
use crate::sale::{Captured, Changed, FactError};

const PAGE_MAX: usize = 1_000;
/// Payments that one call reads to find those in a state.
const READ_MAX: usize = 10_000;
/// A note is for reading.
const REASON_CHARS_MAX: usize = 500;

fn broken(error: FactError) -> Problem {
    Problem::new(Code::Internal, error.to_string())
}

fn field(name: &str, what: impl std::fmt::Display) -> Problem {
    Problem::new(Code::InvalidField, format!("{name}: {what}"))
}

fn no_order() -> Problem {
    Problem::new(Code::NotFound, "there is no order with this id")
}

fn no_payment() -> Problem {
    Problem::new(Code::NotFound, "there is no payment with this id")
}

fn unknown() -> Problem {
    Problem::new(Code::OutcomeUnknown, "it may be done; ask again")
}

fn reason(text: &str) -> Result<&str, Problem> {
    let text = text.trim();
    let n_chars = text.chars().count();
    if n_chars == 0 || n_chars > REASON_CHARS_MAX || text.contains(char::is_control) {
        return Err(field(
            "reason",
            format!("allowed are 1 to {REASON_CHARS_MAX} characters without control characters"),
        ));
    }
    Ok(text)
}

/// Where a page ends: the sale (none: payments that name no order) and the payment.
struct Cursor {
    sale: Option<SaleId>,
    payment: PaymentId,
}

impl Cursor {
    /// `sale.payment`; no id has a full stop in it.
    fn text(&self) -> String {
        let sale = self.sale.as_ref().map_or("", SaleId::as_str);
        format!("{sale}.{}", self.payment)
    }

    fn parse(text: &str) -> Option<Self> {
        let (sale, payment) = text.split_once('.')?;
        Some(Self {
            sale: match sale {
                "" => None,
                sale => Some(SaleId::parse(sale).ok()?),
            },
            payment: PaymentId::parse(payment).ok()?,
        })
    }
}

fn state(name: &str) -> Option<PaymentState> {
    use PaymentState as S;
    [
        S::Captured,
        S::Applied,
        S::Review,
        S::RefundDue,
        S::Refunded,
    ]
    .into_iter()
    .find(|s| s.name() == name)
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct WholeOrder<'a> {
    #[serde(flatten)]
    order: AuditOrderOut<'a>,
    payments: Vec<AuditPaymentOut<'a>>,
    entitlements: Vec<EntitlementOut<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct EntitlementOut<'a> {
    entitlement_id: &'a str,
    sku_id: &'a str,
    work_id: &'a str,
    status: &'static str,
    granted_at: String,
    valid_until: String,
}

impl Admin {
    fn whole(&self, order: &Order) -> Result<Reply, Problem> {
        let payments = self.selling.payments_of(order.id).map_err(broken)?;
        let now = self.selling.clock().now();
        let entitlements = self.selling.entitlements_of(order).map_err(broken)?;
        Ok(Reply::json(
            StatusCode::OK,
            &WholeOrder {
                order: AuditOrderOut::of(order, None),
                payments: payments
                    .iter()
                    .map(|p| AuditPaymentOut::of(p, Some(&order.sale)))
                    .collect(),
                entitlements: entitlements
                    .iter()
                    .map(|e| EntitlementOut {
                        entitlement_id: e.id.as_str(),
                        sku_id: e.sku.as_str(),
                        work_id: e.work.as_str(),
                        status: e.status(now).name(),
                        granted_at: e.granted_at.rfc3339(),
                        valid_until: e.valid_until.rfc3339(),
                    })
                    .collect(),
            },
        ))
    }

    pub(super) fn order(&self, id: &str) -> Result<Reply, Problem> {
        let id = OrderId::parse(id).ok_or_else(no_order)?;
        let order = self.selling.any_order(id).map_err(broken)?;
        self.whole(&order.ok_or_else(no_order)?)
    }

    pub(super) async fn refund(
        &self,
        id: &str,
        call: &Call,
        body: Unread,
    ) -> Result<Reply, Problem> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct In {
            restock: bool,
            reason: String,
        }
        let id = OrderId::parse(id).ok_or_else(no_order)?;
        let body = body.json(call.headers()).await?;
        let asked: In = json::read(&body)?;
        let why = reason(&asked.reason)?;
        let restock = asked.restock;
        match self
            .selling
            .change(id, OrderEvent::RefundAsked { restock })
            .await
        {
            Changed::Stands { order, replayed } => {
                // The log is all that tells who did what.
                if !replayed {
                    tracing::info!(order = %id, restock, why, "an operator refunds an order");
                }
                self.whole(&order)
            }
            Changed::Illegal(order) => Err(Problem::new(
                Code::OrderStateInvalid,
                format!(
                    "an order that is {} was never paid, so nothing can be given back",
                    order.state.name()
                ),
            )),
            Changed::Unproven(_) => Err(Problem::new(
                Code::OrderStateInvalid,
                "what paid this order is not known since a recovery, so there is nothing to send \
                 back; have its provider tell the payment again, then refund it",
            )),
            Changed::Missing(_) => Err(no_order()),
            Changed::Unknown => Err(unknown()),
        }
    }

    /// Every payment, by sale and id; a filter by state may leave a page short, or
    /// empty, and there is a cursor as long as there is more.
    pub(super) async fn payments(&self, call: &Call) -> Result<Reply, Problem> {
        let sale = match call.query("sale").filter(|s| !s.is_empty()) {
            None => None,
            Some(text) => {
                let live = self.selling.sale(text).ok_or_else(no_sale)?;
                Some(live.sale().id.clone())
            }
        };
        let wanted = match call.query("state").filter(|s| !s.is_empty()) {
            None => None,
            Some(name) => Some(state(name).ok_or_else(|| {
                let known = "CAPTURED, APPLIED, REVIEW, REFUND_DUE, REFUNDED";
                field(
                    "state",
                    format!("{name:?} is not known; allowed are {known}"),
                )
            })?),
        };
        let after = match call.query("cursor").filter(|s| !s.is_empty()) {
            None => None,
            Some(text) => Some(
                Cursor::parse(text).ok_or_else(|| field("cursor", "not one that a page gave"))?,
            ),
        };
        let limit = match call.query("limit") {
            None => PAGE_MAX,
            Some(text) => text
                .parse::<usize>()
                .ok()
                .filter(|n| (1..=PAGE_MAX).contains(n))
                .ok_or_else(|| field("limit", format!("allowed are 1 to {PAGE_MAX}")))?,
        };
        // Those that name no order first, then sale by sale.
        let groups: Vec<Option<SaleId>> = match sale {
            Some(one) => vec![Some(one)],
            None => {
                let mut sales: Vec<_> = self.selling.sales().keys().cloned().map(Some).collect();
                sales.sort();
                sales.insert(0, None);
                sales
            }
        };
        // Sales never go; so it is of another list.
        if after.as_ref().is_some_and(|c| !groups.contains(&c.sale)) {
            return Err(field(
                "cursor",
                "not one that a page of these payments gave",
            ));
        }
        let selling = std::sync::Arc::clone(&self.selling);
        let read = move || {
            let mut page = Page::new(limit, wanted);
            page.fill(groups, after, |sale, after, n| {
                let page = selling.payments_page(sale, after, n);
                page.map(|p| p.payments)
            })?;
            Ok::<_, FactError>(page)
        };
        let page = tokio::task::spawn_blocking(read)
            .await
            .map_err(|e| Problem::new(Code::Internal, e.to_string()))?
            .map_err(broken)?;
        #[derive(Serialize)]
        struct Out<'a> {
            payments: Vec<AuditPaymentOut<'a>>,
            #[serde(skip_serializing_if = "Option::is_none")]
            next: Option<String>,
        }
        let out = Out {
            payments: page
                .found
                .iter()
                .map(|(sale, p)| AuditPaymentOut::of(p, sale.as_ref()))
                .collect(),
            next: page.next.as_ref().map(Cursor::text),
        };
        Ok(Reply::json(StatusCode::OK, &out))
    }

    pub(super) async fn review(
        &self,
        id: &str,
        accept: bool,
        call: &Call,
        body: Unread,
    ) -> Result<Reply, Problem> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct In {
            reason: String,
        }
        let id = PaymentId::parse(id).map_err(|_| no_payment())?;
        let body = body.json(call.headers()).await?;
        let asked: In = json::read(&body)?;
        let why = reason(&asked.reason)?;
        let payment = self.selling.payment(&id).map_err(broken)?;
        let payment = payment.ok_or_else(no_payment)?;
        match self.selling.review(&payment, accept, why.to_owned()).await {
            Captured::Stands { payment, replayed } => {
                if !replayed {
                    tracing::info!(payment = %id, accept, why, "an operator decides about a payment");
                }
                let order = match payment.order {
                    Some(order) => self.selling.any_order(order).map_err(broken)?,
                    None => None,
                };
                let sale = order.as_ref().map(|o| &o.sale);
                let out = AuditPaymentOut::of(&payment, sale);
                Ok(Reply::json(StatusCode::OK, &out))
            }
            Captured::Illegal(payment) => Err(Problem::new(
                Code::OrderStateInvalid,
                format!(
                    "the payment is {}, and {}",
                    payment.state.name(),
                    if accept {
                        "only one under REVIEW can be accepted, if its order waits for its money, \
                         or is closed, and its sale runs and has units for it"
                    } else {
                        "only one under REVIEW can be rejected"
                    }
                ),
            )),
            Captured::Missing => Err(no_payment()),
            Captured::Unknown => Err(unknown()),
        }
    }
}

struct Page {
    limit: usize,
    wanted: Option<PaymentState>,
    found: Vec<(Option<SaleId>, Payment)>,
    next: Option<Cursor>,
}

impl Page {
    fn new(limit: usize, wanted: Option<PaymentState>) -> Self {
        Self {
            limit,
            wanted,
            found: Vec::new(),
            next: None,
        }
    }

    /// `read` gives the next payments of a group, after one.
    fn fill<E>(
        &mut self,
        groups: Vec<Option<SaleId>>,
        after: Option<Cursor>,
        read: impl Fn(Option<&SaleId>, Option<&PaymentId>, usize) -> Result<Vec<Payment>, E>,
    ) -> Result<(), E> {
        const AT_ONCE: usize = 500;
        let from = after
            .as_ref()
            .map_or(Some(0), |c| groups.iter().position(|g| *g == c.sale));
        let mut after = after.map(|c| c.payment);
        let mut n_read = 0;
        for sale in groups.into_iter().skip(from.unwrap_or(usize::MAX)) {
            loop {
                let payments = read(sale.as_ref(), after.as_ref(), AT_ONCE)?;
                let n_here = payments.len();
                for payment in payments {
                    n_read += 1;
                    after = Some(payment.id.clone());
                    if self.wanted.is_none_or(|s| s == payment.state) {
                        self.found.push((sale.clone(), payment));
                    }
                    if self.found.len() == self.limit || n_read == READ_MAX {
                        self.next = after.map(|payment| Cursor { sale, payment });
                        return Ok(());
                    }
                }
                if n_here < AT_ONCE {
                    break;
                }
            }
            after = None;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_reads_its_own_text_and_no_other() {
        for text in ["tea.pay_1", ".pay_1"] {
            assert_eq!(Cursor::parse(text).expect(text).text(), text);
        }
        for bad in ["", "tea", "tea.", "a b.pay_1", "tea.pay.1"] {
            assert!(Cursor::parse(bad).is_none(), "{bad}");
        }
    }
}
