//! A stock host that lies: it forgets or invents things, holds an order in another
//! version, or breaks off a script midway.

use floodgate_engine::domain::order::MARK_SPAN;
use floodgate_engine::stock::embedded::Keyspace;
use floodgate_engine::stock::{Args, BucketRef, Script};

use crate::host::{SimHost, execute, with_vm};

/// Of what stands under a user with this order: units, key with its length, and the order.
fn with_user(keys: &Keyspace, users: &[u8], user: &[u8], slot: &[u8]) -> Option<[Vec<u8>; 3]> {
    let value = keys.fields(users)?.get(user)?;
    let mut parts = value.splitn(4, |b| *b == b':');
    let [units, length, key, order] = [parts.next()?, parts.next()?, parts.next()?, parts.next()?];
    ([user, key].join(&b':') == slot).then(|| {
        let key = [length, key].join(&b':');
        [units.to_vec(), key, order.to_vec()]
    })
}

/// The field of an order's own; its key is the `nth` part of a text.
fn slot(user: &[u8], text: &[u8], nth: usize) -> Vec<u8> {
    let key = text.split(|b| *b == b':').nth(nth).expect("a key");
    [user, key].join(&b':')
}

impl SimHost {
    /// The host forgets or invents something about the first of a batch.
    pub fn tamper(&self, bucket: &BucketRef, args: &Args) {
        let world = &self.world;
        let args: Vec<&[u8]> = args.iter().collect();
        let [_, stock, orders, users, ..] = bucket.keys();
        let (user, entry) = (args[9], args[11]);
        let slot = &slot(user, entry, 2)[..];
        let n_items: usize = number(args[12]) as usize;
        with_vm(|vm| {
            let mut keys = vm.keyspace();
            match world.draw(|rng| rng.u8(..3)) {
                0 => {
                    for item in 0..n_items {
                        let field = [b"a:", args[13 + 2 * item]].concat();
                        if let Some(free) =
                            keys.fields(stock.as_bytes()).and_then(|f| f.get(&field))
                        {
                            let more = (number(free) + 8).to_string();
                            keys.fields_mut(stock.as_bytes())
                                .insert(field.into(), more.into_bytes().into());
                        }
                    }
                    world.count("fault: the stock host invented units");
                    world.note(format_args!("units invented"));
                }
                1 => {
                    if keys.delete_fields(users.as_bytes(), [user].into_iter()) > 0 {
                        world.count("fault: the stock host forgot what a user has");
                        world.note(format_args!("a user's units forgotten"));
                    }
                }
                _ => {
                    let with_user = with_user(&keys, users.as_bytes(), user, slot);
                    if let Some([units, _, _]) = &with_user {
                        keys.fields_mut(users.as_bytes())
                            .insert(user.into(), units.as_slice().into());
                    }
                    if with_user.is_some()
                        || keys.delete_fields(orders.as_bytes(), [slot].into_iter()) > 0
                    {
                        world.count("fault: the stock host forgot a key");
                        world.note(format_args!("a key forgotten"));
                    }
                }
            }
        });
        world.tamper();
    }

    /// The first order that is to change stands there in another version, and the digest
    /// counts it so. The very call that follows must notice.
    pub fn put_version_off(&self, bucket: &BucketRef, args: &Args) {
        let world = &self.world;
        let args: Vec<&[u8]> = args.iter().collect();
        let [meta, _, orders, users, ..] = bucket.keys();
        let (user, place, was) = (args[6], args[7], args[8]);
        let slot = &slot(user, place, 1)[..];
        with_vm(|vm| {
            let mut keys = vm.keyspace();
            let with_user = with_user(&keys, users.as_bytes(), user, slot);
            let own = keys.fields(orders.as_bytes()).and_then(|f| f.get(slot));
            let (hash, field, before, order) = match (with_user, own) {
                (Some([units, key, order]), _) => {
                    (users, user, [&units[..], &key, b""].join(&b':'), order)
                }
                (None, Some(order)) => (orders, slot, Vec::new(), order.to_vec()),
                (None, None) => return,
            };
            let parts: Vec<&[u8]> = order.splitn(5, |b| *b == b':').collect();
            // One that is done already must not be undone.
            if let [print, id, _version, mark, body] = parts[..]
                && order.starts_with(was)
                && let Some(digest) = keys.fields(meta.as_bytes()).and_then(|f| f.get(b"digest"))
            {
                let digest = number(digest) + MARK_SPAN + 11 - number(mark);
                let digest = (digest % MARK_SPAN).to_string().into_bytes();
                keys.fields_mut(meta.as_bytes())
                    .insert((*b"digest").into(), digest.into());
                let older = [&before, &[print, id, b"7:11", body].join(&b':')[..]].concat();
                keys.fields_mut(hash.as_bytes())
                    .insert(field.into(), older.into());
                world.count("fault: the stock host has an order in another version");
                world.note(format_args!("a hold in another version"));
            }
        });
    }

    /// The call runs; its first writes stand and its last ones do not.
    pub fn run_in_part(&self, bucket: &BucketRef, script: Script, args: &Args) {
        // In the order in which the scripts write.
        let [meta, stock, orders, users, moves, _] = bucket.keys();
        let order = [orders, users, stock, moves, meta];
        let before = with_vm(|vm| vm.keyspace().clone());
        // What it would have said does not matter: the caller hears of an error.
        let _ = execute(bucket, script, args);
        let written = self.world.draw(|rng| rng.usize(..=order.len()));
        with_vm(|vm| {
            let mut keys = vm.keyspace();
            for key in &order[written..] {
                keys.put_back(key.as_bytes(), &before);
            }
        });
    }
}

fn number(text: &[u8]) -> u64 {
    let text = std::str::from_utf8(text).expect("digits");
    text.parse().expect("a number")
}
