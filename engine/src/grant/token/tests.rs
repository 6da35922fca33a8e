//! What an attacker may try with a token, and what its bytes are.

use super::*;
use proptest::prelude::*;

const NOW: UnixMs = UnixMs(1_793_000_000_000);

struct Ids {
    entitlement: EntitlementId,
    user: UserId,
    device: DeviceId,
    work: WorkId,
}

fn ids(text: [&str; 4]) -> Ids {
    Ids {
        entitlement: EntitlementId::parse(text[0]).expect("valid"),
        user: UserId::parse(text[1]).expect("valid"),
        device: DeviceId::parse(text[2]).expect("valid"),
        work: WorkId::parse(text[3]).expect("valid"),
    }
}

fn ana() -> Ids {
    ids(["ent_1", "ana", "tv", "film"])
}

fn claims(ids: &Ids, kind: Kind, expires_at: UnixMs) -> Claims<'_> {
    Claims {
        kind,
        entitlement: &ids.entitlement,
        user: &ids.user,
        device: &ids.device,
        work: &ids.work,
        expires_at,
        run: 7,
    }
}

fn soon() -> UnixMs {
    NOW.plus(Duration::from_secs(60))
}

fn key(n: u8) -> TokenKey {
    TokenKey::new([n; 32])
}

fn rotated(newest: u8, others: &[u8]) -> Keys {
    Keys::new(&TokenKeys {
        newest: key(newest),
        others: others.iter().map(|n| key(*n)).collect(),
    })
}

fn keys(n: u8) -> Keys {
    rotated(n, &[])
}

fn play_token() -> String {
    keys(1).sign(&claims(&ana(), Kind::Play, soon()))
}

/// Errors alone: a token has no equality.
fn refusal(kind: Kind, text: &[u8], now: UnixMs) -> Option<TokenError> {
    keys(1).read(kind, text, now).err()
}

#[test]
fn a_token_says_what_was_signed() {
    let token = keys(1)
        .read(Kind::Play, play_token().as_bytes(), NOW)
        .expect("good");
    let said = [
        token.entitlement(),
        token.user(),
        token.device(),
        token.work(),
    ];
    assert_eq!(said, ["ent_1", "ana", "tv", "film"]);
    assert_eq!((token.expires_at, token.run), (soon(), 7));
}

/// Players hold tokens over a restart of the engine, and so over its next version.
#[test]
fn the_bytes_of_a_token_are_a_format() {
    assert_eq!(
        play_token(),
        "AQEAAAGhdyG0YAAAAAAAAAAHBWVudF8xA2FuYQJ0dgRmaWxt8a7Eiv_q3OW0pgugxm1NJ7-4EdCwcLu6QbJffEqXlps"
    );
}

#[test]
fn the_longest_ids_fit_and_make_the_longest_token() {
    let longest = ["e", "u", "d", "w"].map(|c| c.repeat(ID_BYTES_MAX));
    let ids = ids(longest.each_ref().map(String::as_str));
    let text = keys(1).sign(&claims(&ids, Kind::Download, soon()));
    assert_eq!(text.len(), TEXT_MAX);
    let token = keys(1).read(Kind::Download, text.as_bytes(), NOW);
    assert_eq!(token.expect("good").work(), longest[3]);
    for more in [format!("{text}A"), text.repeat(2), "A".repeat(1 << 20)] {
        assert_eq!(
            refusal(Kind::Download, more.as_bytes(), NOW),
            Some(TokenError::Forged)
        );
    }
}

#[test]
fn every_flipped_bit_and_every_cut_is_noticed() {
    let text = play_token().into_bytes();
    for at in 0..text.len() {
        for bit in 0..8 {
            let mut flipped = text.clone();
            flipped[at] ^= 1 << bit;
            let heard = refusal(Kind::Play, &flipped, NOW);
            assert_eq!(heard, Some(TokenError::Forged), "byte {at}, bit {bit}");
        }
        let cut = refusal(Kind::Play, &text[..at], NOW);
        assert_eq!(cut, Some(TokenError::Forged), "cut at {at}");
    }
    let padded = [&text[..], b"="].concat();
    assert_eq!(refusal(Kind::Play, &padded, NOW), Some(TokenError::Forged));
}

#[test]
fn a_token_for_one_thing_is_none_for_another() {
    let download = keys(1).sign(&claims(&ana(), Kind::Download, soon()));
    assert_eq!(
        refusal(Kind::Play, download.as_bytes(), NOW),
        Some(TokenError::Kind)
    );
    assert_eq!(
        refusal(Kind::Download, play_token().as_bytes(), NOW),
        Some(TokenError::Kind)
    );
}

#[test]
fn a_token_ends_to_the_millisecond_and_none_lives_longer_than_any_may() {
    let at = |now| refusal(Kind::Play, play_token().as_bytes(), now);
    assert_eq!(at(UnixMs(soon().0 - 1)), None);
    assert_eq!(at(soon()), Some(TokenError::Expired));
    assert_eq!(at(UnixMs(u64::MAX)), Some(TokenError::Expired));
    // The clock of the engine that made it was put back since.
    let early = UnixMs(soon().0 - 185_000);
    assert_eq!(at(early), None);
    assert_eq!(at(UnixMs(early.0 - 1)), Some(TokenError::Early));
    assert_eq!(at(UnixMs(0)), Some(TokenError::Early));
}

#[test]
fn keys_are_rotated_without_a_player_noticing() {
    let text = play_token();
    let read = |keys: &Keys| keys.read(Kind::Play, text.as_bytes(), NOW).map(|_| ());
    assert_eq!(read(&keys(2)), Err(TokenError::Forged), "a foreign key");
    let after = rotated(2, &[3, 1]);
    assert_eq!(read(&after), Ok(()));
    let newest = after.sign(&claims(&ana(), Kind::Play, soon()));
    let by_newest = keys(2).read(Kind::Play, newest.as_bytes(), NOW);
    assert!(by_newest.is_ok(), "the first key signs");
    assert_eq!(read(&rotated(2, &[3])), Err(TokenError::Forged));
}

/// Signed with the right key, and still none of ours: what a later version may write, or
/// somebody who uses the key for something else.
#[test]
fn signed_bytes_that_say_nothing_known_are_refused() {
    let sign = |said: &[u8]| {
        let mut mac = keys(1).first;
        mac.update(said);
        URL_SAFE_NO_PAD.encode([said, &mac.finalize().into_bytes()[..]].concat())
    };
    let good = URL_SAFE_NO_PAD.decode(play_token()).expect("base64");
    let said = &good[..good.len() - MAC_BYTES];
    let change = |at: usize, to: u8| {
        let mut other = said.to_vec();
        other[at] = to;
        refusal(Kind::Play, sign(&other).as_bytes(), NOW)
    };
    assert_eq!(refusal(Kind::Play, sign(said).as_bytes(), NOW), None);
    assert_eq!(change(0, 2), Some(TokenError::Forged), "another version");
    assert_eq!(change(1, 3), Some(TokenError::Kind), "an unknown kind");
    for length in [0, 4, 6, 65, 255] {
        let heard = change(IDS_AT, length);
        assert_eq!(heard, Some(TokenError::Forged), "an id of {length}");
    }
    let longer = [said, b"x"].concat();
    assert_eq!(
        refusal(Kind::Play, sign(&longer).as_bytes(), NOW),
        Some(TokenError::Forged)
    );
    assert_eq!(
        refusal(Kind::Play, sign(b"").as_bytes(), NOW),
        Some(TokenError::Forged)
    );
}

proptest! {
    #[test]
    fn whatever_is_shown_is_answered(text in prop::collection::vec(any::<u8>(), 0..600)) {
        prop_assert_eq!(refusal(Kind::Play, &text, NOW), Some(TokenError::Forged));
    }

    /// Two tokens are the same only if they say the same.
    #[test]
    fn what_is_signed_is_what_is_read(
        a in "[A-Za-z0-9_-]{1,64}", b in "[A-Za-z0-9_-]{1,64}",
        c in "[A-Za-z0-9_-]{1,64}", d in "[A-Za-z0-9_-]{1,64}", ms in 1_u64..180_000,
    ) {
        let until = UnixMs(NOW.0 + ms);
        let ids = ids([&a, &b, &c, &d]);
        let text = keys(1).sign(&claims(&ids, Kind::Play, until));
        let token = keys(1).read(Kind::Play, text.as_bytes(), NOW).expect("good");
        prop_assert_eq!(
            [token.entitlement(), token.user(), token.device(), token.work()],
            [&a, &b, &c, &d]
        );
        prop_assert_eq!(token.expires_at, until);
    }
}
