//! A tiny shop with the engine's HTTP contract, honest or lying in one way.
//! Public and admin API share one port; threads and a mutex, nothing clever.

#![allow(dead_code)] // Each test file uses its own part of this.

pub(crate) mod till;

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};

use serde_json::{Value, json};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lie {
    None,
    /// Honest, but every fifth purchase is handled and not answered.
    Cuts,
    /// Honest, but slow to see the truth: every fifth answer is "unknown".
    Unknowns,
    SellsTooMany,
    ForgetsWins,
    ForgetsKeys,
    AcceptsOtherBodies,
    ChangesAmounts,
    CancelsByItself,
    ForgetsLimits,
    StoreMissesOne,
    StockDrifts,
    SellsNothing,
    /// Takes a payment and has never heard of it.
    ForgetsPayments,
    /// The money goes back, the film stays.
    KeepsGrants,
    /// Money that nobody wants is never sent back.
    SitsOnMoney,
}

pub(crate) const TOKEN: &str = "shop-token";

struct Order {
    id: String,
    user: String,
    key: String,
    quantity: i64,
    closed: Option<&'static str>,
    paid: bool,
    /// Whether the units went back on sale.
    refunded: Option<bool>,
    created: String,
    deadline: jiff::Timestamp,
}

struct Shop {
    lie: Lie,
    sale: Value,
    orders: Vec<Order>,
    keys: HashMap<(String, String), (String, usize)>,
    n_purchases: u64,
    forgot: bool,
    payments: Vec<till::Payment>,
}

/// The shop's address; it lives as long as the test process.
pub(crate) fn open(lie: Lie) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let shop = Shop {
        lie,
        sale: Value::Null,
        orders: Vec::new(),
        keys: HashMap::new(),
        n_purchases: 0,
        forgot: false,
        payments: Vec::new(),
    };
    let shop = Arc::new(Mutex::new(shop));
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let shop = shop.clone();
            std::thread::spawn(move || serve(stream, &shop));
        }
    });
    address
}

struct Request {
    method: String,
    path: String,
    headers: HashMap<String, String>,
    body: Vec<u8>,
}

fn serve(mut stream: TcpStream, shop: &Mutex<Shop>) {
    while let Some(request) = read(&mut stream) {
        let Some((status, body)) = lock(shop).answer(&request) else {
            return;
        };
        let body = body.to_string();
        let head = format!(
            "HTTP/1.1 {status} X\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        if stream
            .write_all(format!("{head}{body}").as_bytes())
            .is_err()
        {
            return;
        }
    }
}

fn lock(shop: &Mutex<Shop>) -> MutexGuard<'_, Shop> {
    shop.lock().unwrap()
}

fn read(stream: &mut TcpStream) -> Option<Request> {
    let mut bytes = Vec::new();
    let mut part = [0; 4096];
    let head_len = loop {
        if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break at + 4;
        }
        match stream.read(&mut part) {
            Ok(n) if n > 0 => bytes.extend_from_slice(&part[..n]),
            Ok(_) | Err(_) => return None,
        }
    };
    let head = String::from_utf8(bytes[..head_len].to_vec()).unwrap();
    let mut lines = head.lines();
    let mut first = lines.next()?.split(' ');
    let (method, path) = (first.next()?.to_owned(), first.next()?.to_owned());
    let headers: HashMap<_, _> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.into(), value.into()))
        .collect();
    let length = headers
        .get("content-length")
        .map_or(0, |n: &String| n.parse().unwrap());
    let mut body = bytes.split_off(head_len);
    while body.len() < length {
        match stream.read(&mut part) {
            Ok(n) if n > 0 => body.extend_from_slice(&part[..n]),
            Ok(_) | Err(_) => return None,
        }
    }
    Some(Request {
        method,
        path,
        headers,
        body,
    })
}

fn problem(status: u16, code: &str) -> (u16, Value) {
    (
        status,
        json!({"type": format!("urn:floodgate:problem:{code}"), "status": status, "code": code}),
    )
}

impl Shop {
    fn answer(&mut self, request: &Request) -> Option<(u16, Value)> {
        self.close_windows();
        let path = request.path.as_str();
        let token = request.headers.get("authorization").map(String::as_str);
        if path.starts_with("/admin") && token != Some(&format!("Bearer {TOKEN}")) {
            return Some(problem(401, "UNAUTHENTICATED"));
        }
        let user = request
            .headers
            .get("x-user-id")
            .cloned()
            .unwrap_or_default();
        match (request.method.as_str(), path) {
            ("POST", "/admin/v1/sales") => {
                if !self.sale.is_null() {
                    return Some(problem(409, "SALE_DIFFERS"));
                }
                self.sale = serde_json::from_slice(&request.body).unwrap();
                Some((201, self.sale.clone()))
            }
            ("POST", "/admin/v1/reconcile") => {
                Some((200, json!({"differences": 0, "skus": [], "detail": []})))
            }
            ("POST", "/v1/orders") => self.purchase(request, user),
            ("POST", "/v1/payments/callback") => Some(self.callback(request)),
            ("GET", "/v1/me/entitlements") => Some((200, self.entitlements(&user))),
            ("POST", path) if path.ends_with("/refund") => Some(self.refund(path, request)),
            ("GET", path) if path.starts_with("/admin/v1/payments?") => {
                Some((200, self.list_payments(path)))
            }
            ("GET", path) if path.contains("/orders?from=") => Some((200, self.page(path))),
            ("GET", path) if path.starts_with("/v1/orders/") => {
                let found = self
                    .orders
                    .iter()
                    .position(|order| path.ends_with(&order.id) && order.user == user);
                Some(found.map_or_else(|| problem(404, "NOT_FOUND"), |at| (200, self.show(at))))
            }
            ("POST", path) if path.ends_with("/cancel") => {
                let mine = |order: &Order| path.contains(&order.id) && order.user == user;
                let Some(found) = self.orders.iter().position(mine) else {
                    return Some(problem(404, "NOT_FOUND"));
                };
                self.orders[found].closed = Some("canceled");
                Some((200, self.show(found)))
            }
            ("GET", path) if path.contains("/sales/") => Some((200, self.show_sale())),
            _ => Some(problem(404, "NOT_FOUND")),
        }
    }

    fn units(&self) -> i64 {
        self.sale["skus"][0]["units"].as_i64().unwrap()
    }

    fn live(&self) -> i64 {
        self.orders
            .iter()
            .filter(|order| order.is_live())
            .map(|order| order.quantity)
            .sum()
    }

    fn purchase(&mut self, request: &Request, user: String) -> Option<(u16, Value)> {
        self.n_purchases += 1;
        let answer = self.decide(request, user);
        let fifth = self.n_purchases.is_multiple_of(5);
        if fifth && self.lie == Lie::Cuts {
            return None;
        }
        if fifth && self.lie == Lie::Unknowns {
            return Some(problem(503, "OUTCOME_UNKNOWN"));
        }
        Some(answer)
    }

    fn decide(&mut self, request: &Request, user: String) -> (u16, Value) {
        if self.lie == Lie::SellsNothing {
            return problem(503, "FLASH_SALE_THROTTLED");
        }
        let key = request.headers["idempotency-key"].clone();
        let fingerprint = String::from_utf8(request.body.clone()).unwrap();
        let body: Value = serde_json::from_slice(&request.body).unwrap();
        let quantity = body["items"][0]["quantity"].as_i64().unwrap();
        let owner = (user.clone(), key.clone());
        if let Some((known, at)) = self.keys.get(&owner)
            && self.lie != Lie::ForgetsKeys
        {
            return if *known == fingerprint || self.lie == Lie::AcceptsOtherBodies {
                (200, self.show(*at))
            } else {
                problem(422, "IDEMPOTENCY_KEY_REUSED")
            };
        }
        let mine = self
            .orders
            .iter()
            .filter(|order| order.user == user && order.is_live());
        let used: i64 = mine.map(|order| order.quantity).sum();
        let limit = self.sale["unitsPerUser"].as_i64().unwrap();
        if used + quantity > limit && !matches!(self.lie, Lie::ForgetsLimits | Lie::ForgetsKeys) {
            return problem(422, "LIMIT_EXCEEDED");
        }
        let spare = if self.lie == Lie::SellsTooMany {
            100
        } else {
            0
        };
        if self.live() + self.withdrawn() + quantity > self.units() + spare {
            return problem(422, "STOCK_NOT_ENOUGH");
        }
        let now = jiff::Timestamp::now();
        let order = Order {
            id: format!("01930000-0000-8000-8000-{:012x}", self.n_purchases),
            user,
            key,
            quantity,
            closed: None,
            paid: false,
            refunded: None,
            created: now.to_string(),
            deadline: now + self.window(),
        };
        self.orders.push(order);
        let at = self.orders.len() - 1;
        let told = self.show(at);
        if self.lie == Lie::ForgetsWins && at == 3 && !self.forgot {
            self.forgot = true;
            self.orders.pop();
        } else {
            self.keys.insert(owner, (fingerprint, at));
        }
        (201, told)
    }

    fn show(&self, at: usize) -> Value {
        let order = &self.orders[at];
        let price = self.sale["skus"][0]["priceCent"].as_i64().unwrap();
        json!({
            "orderId": order.id, "saleId": self.sale["id"],
            "status": self.status(order), "closedReason": order.closed,
            "items": [{"skuId": "green", "quantity": order.quantity, "priceCent": price}],
            "payAmountCent": price * order.quantity, "currency": "EUR",
            "payDeadlineAt": order.deadline.to_string(), "createdAt": order.created,
        })
    }

    fn page(&mut self, path: &str) -> Value {
        let from_store = path.contains("from=store");
        if self.lie == Lie::CancelsByItself {
            self.orders[2].closed = Some("canceled");
        }
        let start: usize = path
            .split("cursor=")
            .nth(1)
            .map_or(0, |cursor| cursor.parse().unwrap());
        // Pages of seven, whatever the limit: paging must work.
        let end = (start + 7).min(self.orders.len());
        let mut rows = Vec::new();
        for at in start..end {
            if from_store && at == 4 && self.lie == Lie::StoreMissesOne {
                continue;
            }
            let mut row = self.show(at);
            let n_events = self.n_events(&self.orders[at]);
            row["userId"] = json!(self.orders[at].user);
            row["idempotencyKey"] = json!(self.orders[at].key);
            row["version"] = json!(n_events.to_string());
            if from_store {
                row["events"] = json!(n_events);
            }
            if at == 1 && self.lie == Lie::ChangesAmounts {
                row["payAmountCent"] = json!(1);
            }
            rows.push(row);
        }
        let next = (end < self.orders.len()).then(|| end.to_string());
        json!({"orders": rows, "nextCursor": next, "seq": self.orders.len()})
    }

    fn show_sale(&self) -> Value {
        let drift = i64::from(self.lie == Lie::StockDrifts);
        let (opened, live) = (self.units(), self.live());
        let (sold, withdrawn) = (self.sold(), self.withdrawn());
        let stock = json!({"opened": opened, "available": opened - live - withdrawn,
            "held": live - sold - drift, "sold": sold, "withdrawn": withdrawn, "transfer": 0});
        json!({
            "id": self.sale["id"], "phase": "OPEN", "unitsPerUser": self.sale["unitsPerUser"],
            "serverTime": jiff::Timestamp::now().to_string(), "durableSeq": self.orders.len(),
            "skus": [{"id": "green", "priceCent": 450, "currency": "EUR", "units": opened,
                "remaining": opened - live, "stock": stock}],
        })
    }
}
