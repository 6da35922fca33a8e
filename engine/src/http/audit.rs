//! What people with the token ask to see whether everything adds up: all orders
//! of a sale from either side, and a pass of the reconciler.

use std::sync::Arc;

use hyper::StatusCode;
use serde::Serialize;

use super::admin::{Admin, no_sale};
use super::call::Call;
use super::letters;
use super::respond::{Code, Problem, Reply};
use super::wire::AuditOrderOut;
use crate::domain::ids::OrderId;
use crate::reconcile::Depth;

const PAGE_MAX: usize = 10_000;

impl Admin {
    pub(super) async fn reconcile(&self) -> Reply {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Out {
            differences: usize,
            sales: Vec<crate::reconcile::SaleReport>,
            detail: Vec<String>,
        }
        let sales = self.reconciler.pass(Depth::Fresh).await;
        let detail: Vec<String> = sales.iter().flat_map(|s| s.differences.clone()).collect();
        Reply::json(
            StatusCode::OK,
            &Out {
                differences: detail.len(),
                sales,
                detail,
            },
        )
    }

    pub(super) async fn orders(&self, id: &str, call: &Call) -> Result<Reply, Problem> {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Page<'a> {
            orders: Vec<AuditOrderOut<'a>>,
            next_cursor: Option<String>,
            seq: u64,
        }
        let live = self.selling.sale(id).ok_or_else(no_sale)?;
        let field =
            |name: &str, what: String| Problem::new(Code::InvalidField, format!("{name}: {what}"));
        let after = match call.query("cursor") {
            None | Some("") => None,
            Some(text) => Some(
                OrderId::parse(text)
                    .ok_or_else(|| field("cursor", "not one that a page gave".into()))?,
            ),
        };
        let limit = match call.query("limit") {
            None => 1_000,
            Some(text) => text
                .parse::<usize>()
                .ok()
                .filter(|n| (1..=PAGE_MAX).contains(n))
                .ok_or_else(|| field("limit", format!("allowed are 1 to {PAGE_MAX}")))?,
        };
        let sale = live.sale().id.clone();
        let internal = |e: String| Problem::new(Code::Internal, e);
        let from = call.query("from").unwrap_or("ledger");
        match from {
            "ledger" => {
                let selling = Arc::clone(&self.selling);
                let page =
                    tokio::task::spawn_blocking(move || selling.orders_page(&sale, after, limit))
                        .await
                        .map_err(|e| internal(e.to_string()))?
                        .map_err(|e| internal(e.to_string()))?;
                Ok(Reply::json(
                    StatusCode::OK,
                    &Page {
                        orders: page
                            .orders
                            .iter()
                            .map(|o| AuditOrderOut::of(o, None))
                            .collect(),
                        next_cursor: page.next.map(|id| id.to_string()),
                        seq: page.durable_seq,
                    },
                ))
            }
            "store" => {
                let (store, node) = (Arc::clone(&self.store), self.node);
                let page = tokio::task::spawn_blocking(move || {
                    store.orders_page(node, &sale, after, limit)
                })
                .await
                .map_err(|e| internal(e.to_string()))?
                .map_err(|e| letters::problem(e.into()))?;
                Ok(Reply::json(
                    StatusCode::OK,
                    &Page {
                        orders: page
                            .orders
                            .iter()
                            .map(|o| AuditOrderOut::of(&o.order, Some(o.n_events)))
                            .collect(),
                        next_cursor: page.next.map(|id| id.to_string()),
                        seq: page.mark.map_or(0, |m| m.seq.0),
                    },
                ))
            }
            other => Err(field(
                "from",
                format!("{other:?} is not known; allowed are ledger and store"),
            )),
        }
    }
}
