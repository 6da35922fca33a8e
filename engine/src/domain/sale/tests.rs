use super::*;

fn raw() -> RawSale {
    RawSale {
        id: "tea".into(),
        name: "Tea".into(),
        starts_at: "2026-11-11T00:00:00Z".into(),
        ends_at: "2026-11-12T00:00:00Z".into(),
        pay_window_seconds: 900,
        payment_grace_seconds: 0,
        units_per_user: 1,
        buckets: 4,
        orders_per_user_max: 100,
        admission: RawAdmission::default(),
        skus: vec![RawSku {
            id: "t".into(),
            name: "T".into(),
            price_cent: 1,
            currency: "EUR".into(),
            units: 10,
            grant: None,
        }],
    }
}

#[test]
fn a_definition_survives_the_way_to_text_and_back() {
    let sale = raw().check().expect("valid");
    assert_eq!(sale.to_raw().check().expect("valid"), sale);
    assert!(sale.difference(&sale).is_empty());
}

fn grant() -> RawGrant {
    RawGrant {
        work_id: "film".into(),
        valid_days: 30,
        devices_max: 2,
        when_full: "kick_oldest".into(),
    }
}

#[test]
fn a_grant_is_part_of_the_definition() {
    let without = raw().check().expect("valid");
    let mut more = raw();
    more.skus[0].grant = Some(grant());
    let with = more.check().expect("valid");
    assert_eq!(with.to_raw().check().expect("valid"), with);
    assert!(with.difference(&with).is_empty());
    let told = without.difference(&with);
    assert!(
        told.len() == 1 && told[0].starts_with("skus: is ") && told[0].contains("film"),
        "{told:?}"
    );
    for (text, spoil) in [
        (
            "skus[0].grant.workId: is empty; allowed are 1 to 64 of A-Z a-z 0-9 _ -",
            (|g| g.work_id.clear()) as fn(&mut RawGrant),
        ),
        (
            "skus[0].grant.validDays: 3651 is out of range; allowed are 1 to 3650",
            |g| g.valid_days = 3_651,
        ),
        (
            "skus[0].grant.devicesMax: 0 is out of range; allowed are 1 to 100",
            |g| g.devices_max = 0,
        ),
        (
            "skus[0].grant.whenFull: \"kick\" is not known; allowed are \"refuse\" and \"kick_oldest\"",
            |g| g.when_full = "kick".into(),
        ),
    ] {
        let mut bad = raw();
        let mut wrong = grant();
        spoil(&mut wrong);
        bad.skus[0].grant = Some(wrong);
        assert_eq!(bad.check().expect_err(text).to_string(), text);
    }
}

#[test]
fn a_grant_says_no_more_than_it_must() {
    let short: RawGrant =
        serde_json::from_str(r#"{"workId":"film","validDays":1}"#).expect("valid");
    assert_eq!((short.devices_max, short.when_full.as_str()), (5, "refuse"));
}

#[test]
fn errors_name_field_value_and_range() {
    type Spoil = fn(&mut RawSale);
    let cases: [(&str, Spoil); 8] = [
        (
            "skus[0].priceCent: 10000000001 is out of range; allowed are 0 to 10000000000",
            |s| s.skus[0].price_cent = 10_000_000_001,
        ),
        (
            "unitsPerUser: 0 is out of range; allowed are 1 to 1000000",
            |s| s.units_per_user = 0,
        ),
        (
            "buckets: 5000 is out of range; allowed are 1 to 4096",
            |s| s.buckets = 5_000,
        ),
        (
            "skus[0].units: 0 is out of range; allowed are 1 to 100000000",
            |s| s.skus[0].units = 0,
        ),
        ("skus: the SKU t stands there twice", |s| {
            s.skus.push(s.skus[0].clone())
        }),
        (
            "endsAt: 2026-11-11T00:00:00Z is not after startsAt 2026-11-11T00:00:00Z",
            |s| {
                s.ends_at.clone_from(&s.starts_at);
            },
        ),
        (
            "startsAt: \"soon\" is not an RFC 3339 time such as 2026-11-11T00:00:00Z",
            |s| s.starts_at = "soon".into(),
        ),
        (
            "id: has a character that is not allowed at byte 1; allowed are 1 to 64 of A-Z a-z 0-9 _ -",
            |s| {
                s.id = "a{b".into();
            },
        ),
    ];
    for (text, spoil) in cases {
        let mut bad = raw();
        spoil(&mut bad);
        assert_eq!(bad.check().expect_err(text).to_string(), text);
    }
}

#[test]
fn shares_add_up_and_few_units_stay_together() {
    let mut sale = raw().check().expect("valid");
    for buckets in [1, 3, 4, 64] {
        sale.buckets = buckets;
        for units in [1, 63, 64, 130, 1_000, 20_003] {
            sale.skus[0].units = units;
            let shares: Vec<u32> = (0..buckets).map(|b| sale.share(0, b)).collect();
            assert_eq!(shares.iter().sum::<u32>(), units);
            let used = shares.iter().filter(|s| **s > 0).count();
            assert!(used == 1 || shares.iter().all(|s| *s == 0 || *s >= 64));
        }
    }
}

#[test]
fn phases_follow_clock_switches_and_stock() {
    let sale = raw().check().expect("valid");
    let open = Switches::default();
    let (before, during, after) = (UnixMs(sale.starts_at.0 - 1), sale.starts_at, sale.ends_at);
    assert_eq!(sale.phase(before, open, true), Phase::Scheduled);
    assert_eq!(sale.phase(during, open, true), Phase::Open);
    assert_eq!(sale.phase(during, open, false), Phase::SoldOut);
    assert_eq!(
        sale.phase(
            during,
            Switches {
                paused: true,
                ended: false
            },
            true
        ),
        Phase::Paused
    );
    assert_eq!(
        sale.phase(
            during,
            Switches {
                paused: true,
                ended: true
            },
            true
        ),
        Phase::Ended
    );
    assert_eq!(sale.phase(after, open, true), Phase::Ended);
}
