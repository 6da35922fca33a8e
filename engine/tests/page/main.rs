//! The promotion page in a real browser: a buyer buys, pays, cancels and is told the truth,
//! and the page's script makes no mistake meanwhile. Skipped where chromedriver is missing.

#[path = "../common/mod.rs"]
mod common;
#[path = "../provider/mod.rs"]
mod provider;

mod browser;

use browser::Browser;
use common::{Engine, open_sale};
use provider::{Shop, shop};
use serde_json::{Value, json};

/// The newest of "My orders".
const ORDER: &str = "#rows li:first-child";

/// The page, with `user` as its buyer.
fn page_of(browser: &Browser, shop: &Shop, user: &str) {
    browser.open(&format!("http://{}/", shop.engine.public));
    browser.shows("#title", "tea");
    browser.write("#user", user);
    browser.press("#who button");
    browser.shows("#mine-note", &format!("for {user}"));
}

fn button(label: &str) -> String {
    format!("{ORDER} button[aria-label^=\"{label}\"]")
}

#[track_caller]
fn nothing_to_complain(browser: &Browser) {
    assert_eq!(browser.complaints(), Vec::<String>::new());
}

fn orders_of(shop: &Shop, user: &str) -> Vec<Value> {
    let mine = shop.engine.get(user, "/v1/me/orders").json;
    mine["orders"].as_array().expect("a list").clone()
}

#[test]
fn a_buyer_wins_pays_and_sees_it_paid() {
    let Some(browser) = Browser::start() else {
        return;
    };
    let shop = shop(3, "");
    page_of(&browser, &shop, "ana");
    browser.shows("#skus", "3 of 3 left");
    browser.press("#buy");
    browser.shows("#said-title", "You got it!");
    browser.shows(ORDER, "To pay");
    browser.shows(ORDER, "Pay within");
    browser.shows("#skus", "2 of 3 left");

    browser.press(&button("Pay by card"));
    browser.shows("h1", "Mock payment by card");
    // Looking again before paying: the page knows of the session and leads back to it.
    browser.open(&format!("http://{}/", shop.engine.public));
    browser.shows(ORDER, "Payment in progress");
    assert_eq!(
        browser.text(&button("Pay by")),
        "",
        "nobody should pay twice"
    );
    // Another way stands open to whom this one failed.
    browser.shows(ORDER, "Use wallet instead");
    browser.press(&button("Continue to pay"));
    browser.shows("h1", "Mock payment by card");
    browser.press("form[action$='do=pay'] button");
    browser.shows("body", "Thank you");
    browser.press("a");
    browser.shows("#title", "tea");
    browser.until("the order is paid", || {
        browser.press("#again");
        browser.text(ORDER).contains("Paid")
    });
    assert_eq!(
        browser.text(&button("")),
        "",
        "nothing is left to do for it"
    );
    assert_eq!(orders_of(&shop, "ana").len(), 1);
    nothing_to_complain(&browser);
}

#[test]
fn an_order_is_given_back_by_two_presses() {
    let Some(browser) = Browser::start() else {
        return;
    };
    let shop = shop(3, "");
    page_of(&browser, &shop, "ana");
    browser.press("#buy");
    browser.press(&button("Cancel"));
    browser.shows(ORDER, "Give it back?");
    assert_eq!(orders_of(&shop, "ana")[0]["status"], "PENDING_PAYMENT");
    browser.press(&button("Press again"));
    browser.shows(ORDER, "Closed");
    browser.shows(ORDER, "You canceled it.");
    browser.shows("#skus", "3 of 3 left");
    nothing_to_complain(&browser);
}

#[test]
fn money_that_a_person_looks_at_is_not_asked_for_again() {
    let Some(browser) = Browser::start() else {
        return;
    };
    let shop = shop(3, "");
    let order = shop.win("ana", "k1");
    let wrong = [("amountCent", json!(99))];
    shop.told(&shop.body(&order, "t1", &wrong), "REVIEW", false);
    // It comes for what is given back as well.
    let given_back = shop.win("ana", "k2");
    let path = format!("/v1/orders/{given_back}/cancel");
    assert_eq!(shop.engine.post("ana", &path).status, 200);
    shop.told(&shop.body(&given_back, "t2", &wrong), "REVIEW", false);
    browser.open(&format!("http://{}/sales/tea", shop.engine.public));
    browser.shows("#title", "tea");
    browser.write("#user", "ana");
    browser.press("#who button");
    browser.shows(ORDER, "Payment under review");
    browser.shows(ORDER, "You canceled it.");
    browser.shows("#rows li:last-child", "Payment under review");
    browser.shows("#rows li:last-child", "A person decides within");
    assert_eq!(browser.text("#rows button[aria-label^=\"Pay by\"]"), "");
    nothing_to_complain(&browser);
}

#[test]
fn a_double_click_is_one_order_and_the_limit_is_told() {
    let Some(browser) = Browser::start() else {
        return;
    };
    let shop = shop(9, "");
    page_of(&browser, &shop, "ana");
    browser.shows("#buy", "Buy now");
    browser.run("const b = document.querySelector('#buy'); b.click(); b.click(); b.click();");
    browser.shows("#said-title", "You got it!");
    assert_eq!(orders_of(&shop, "ana").len(), 1);
    // Two of them are allowed to one buyer.
    for (title, n_orders) in [("You got it!", 2), ("Over the limit per buyer", 2)] {
        browser.run("document.querySelector('#said-title').textContent = ''");
        browser.until("the button rested", || {
            browser.text("#buy") == "Buy now"
                && browser.run("return document.querySelector('#buy').ariaDisabled") == "false"
        });
        browser.press("#buy");
        browser.shows("#said-title", title);
        assert_eq!(orders_of(&shop, "ana").len(), n_orders);
    }
    browser.until("both are listed", || {
        browser.run("return document.querySelectorAll('#rows li').length") == 2
    });
    nothing_to_complain(&browser);
}

#[test]
fn a_second_sale_takes_nothing_from_whoever_shops() {
    let Some(browser) = Browser::start() else {
        return;
    };
    let shop = shop(9, "");
    page_of(&browser, &shop, "ana");
    browser.press("#buy");
    browser.shows("#said-title", "You got it!");
    let other = json!({
        "id": "mug", "name": "mug", "startsAt": "2020-01-01T00:00:00Z",
        "endsAt": "2099-01-01T00:00:00Z", "unitsPerUser": 1,
        "skus": [{"id": "unit", "name": "unit", "priceCent": 100, "currency": "EUR", "units": 1}],
    });
    let made = shop
        .engine
        .admin("POST", "/admin/v1/sales", &other.to_string());
    assert_eq!(made.status, 201, "{}", made.body);
    let n_polls = || {
        let all = "performance.getEntriesByType('resource')";
        let polls = format!("return {all}.filter(r => r.name.endsWith('/v1/sales')).length");
        browser.run(&polls).as_u64().expect("a number")
    };
    let heard = n_polls() + 2;
    browser.until("the page heard of it", || n_polls() >= heard);
    assert_eq!(browser.text("#title"), "tea");
    assert!(browser.text(ORDER).contains("To pay"));
    nothing_to_complain(&browser);
    // Whoever comes now chooses.
    browser.open(&format!("http://{}/", shop.engine.public));
    browser.shows("#sales", "mug");
}

#[test]
fn every_order_on_the_page_can_be_paid() {
    let Some(browser) = Browser::start() else {
        return;
    };
    let folder = tempfile::tempdir().expect("a folder");
    let mock = "[payment]\nprovider = \"mock\"\n";
    let engine = Engine::start(&folder, &open_sale("tea", 9, 9, mock));
    let shop = Shop::at(engine, folder);
    page_of(&browser, &shop, "ana");
    for n in 0..8 {
        shop.win("ana", &format!("k{n}"));
    }
    browser.open(&format!("http://{}/", shop.engine.public));
    browser.until("all of them offer a channel", || {
        let n =
            "return document.querySelectorAll('#rows button[aria-label^=\"Pay by card\"]').length";
        browser.run(n) == 8
    });
    nothing_to_complain(&browser);
}

#[test]
fn an_address_that_is_no_sale_leads_to_all_of_them() {
    let Some(browser) = Browser::start() else {
        return;
    };
    let shop = shop(3, "");
    for path in ["nope", "%zz"] {
        browser.open(&format!("http://{}/sales/{path}", shop.engine.public));
        browser.shows("#title", "There is no such sale");
        browser.press("#lede a");
        browser.shows("#title", "tea");
    }
    nothing_to_complain(&browser);
}

/// The ids of SKUs are those of their sale.
#[test]
fn what_other_sales_sold_does_not_go_by_the_names_of_this_one() {
    let Some(browser) = Browser::start() else {
        return;
    };
    let folder = tempfile::tempdir().expect("a folder");
    let mug = r#"
[[sales]]
id = "mug"
name = "mug"
startsAt = "2020-01-01T00:00:00Z"
endsAt = "2099-01-01T00:00:00Z"
unitsPerUser = 1
skus = [{ id = "unit", name = "big mug", priceCent = 100, currency = "EUR", units = 1 }]
"#;
    let engine = Engine::start(&folder, &open_sale("tea", 9, 9, mug));
    let body = r#"{"saleId": "mug", "items": [{"skuId": "unit", "quantity": 1}]}"#;
    assert_eq!(engine.buy("ana", "k1", body).status, 201);
    browser.open(&format!("http://{}/sales/tea", engine.public));
    browser.shows("#title", "tea");
    browser.write("#user", "ana");
    browser.press("#who button");
    browser.shows(ORDER, "1 × unit (mug)");
    nothing_to_complain(&browser);
}

/// The engine is gone when the buyer presses, and comes back.
#[test]
fn a_press_without_an_answer_becomes_one_order() {
    let Some(browser) = Browser::start() else {
        return;
    };
    let shop = shop(3, "");
    page_of(&browser, &shop, "ana");
    browser.shows("#buy", "Buy now");
    let shop = shop.at_the_same_address(|| {
        browser.press("#buy");
        browser.shows("#said-title", "No answer came back");
    });
    // Opened anew, the page asks on under the same key.
    browser.open(&format!("http://{}/", shop.engine.public));
    browser.shows(ORDER, "To pay");
    browser.shows("#buy", "Buy now");
    assert_eq!(orders_of(&shop, "ana").len(), 1);
    nothing_to_complain(&browser);
}
