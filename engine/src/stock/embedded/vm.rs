//! One Lua 5.1 VM that behaves like Redis towards the shared scripts.
//!
//! It offers `redis.call` for the commands that `lua/README.md` lists, with
//! Redis's conversions: numbers go in as text, missing comes out as `false`,
//! and a reply array ends at its first nil.

use std::cell::{RefCell, RefMut};
use std::collections::HashMap;
use std::rc::Rc;

use bytes::Bytes;
use mlua::{BString, Either, Function, Lua, LuaOptions, StdLib, Table, Value, Variadic};

use smallvec::SmallVec;

use super::keyspace::{Fields, Keyspace};
use crate::stock::host::{Args, BucketRef, Reply, Script};
use crate::stock::script;

pub struct Vm {
    lua: Lua,
    scripts: HashMap<Script, Function>,
    globals: Table,
    bytes_max: usize,
    keyspace: Rc<RefCell<Keyspace>>,
}

impl Vm {
    pub fn new(bytes_max: usize) -> mlua::Result<Self> {
        let lua = Lua::new_with(
            StdLib::TABLE | StdLib::STRING | StdLib::MATH,
            LuaOptions::default(),
        )?;
        let keyspace = Rc::new(RefCell::new(Keyspace::default()));
        let redis = lua.create_table()?;
        let shared = Rc::clone(&keyspace);
        redis.set(
            "call",
            lua.create_function(move |lua, args: Variadic<BString>| {
                command(lua, &shared, args.into())
            })?,
        )?;
        let globals = lua.globals();
        globals.set("redis", redis)?;
        for name in [
            "dofile",
            "loadfile",
            "load",
            "loadstring",
            "print",
            "require",
            "module",
            "collectgarbage",
        ] {
            globals.set(name, Value::Nil)?;
        }
        // As Redis does: a script that forgets `local` fails at once.
        lua.load(
            "setmetatable(_G, {
               __newindex = function(_, name) error('script tried to create global variable ' .. tostring(name), 2) end,
               __index = function(_, name) error('script tried to read global variable ' .. tostring(name), 2) end,
             })",
        )
        .exec()?;
        let mut scripts = HashMap::new();
        for script in Script::ALL {
            let name = format!("@{script:?}");
            scripts.insert(
                script,
                lua.load(script::text(script))
                    .set_name(name)
                    .into_function()?,
            );
        }
        Ok(Self {
            lua,
            scripts,
            globals,
            bytes_max,
            keyspace,
        })
    }

    pub fn run(&mut self, bucket: &BucketRef, script: Script, args: &Args) -> mlua::Result<Reply> {
        let keys = bucket.keys();
        let keys = sequence(&self.lua, keys.iter().map(|key| Some(key.as_bytes())))?;
        self.globals.raw_set("KEYS", keys)?;
        let argv = sequence(&self.lua, args.iter().map(Some))?;
        self.globals.raw_set("ARGV", argv)?;
        // Checked between calls: a limit inside the VM would wrap every operation in
        // a protected call, which costs 4 us an order. A call's own need is bounded
        // by the size of a batch.
        if self.lua.used_memory() > self.bytes_max {
            self.lua.gc_collect()?;
            if self.lua.used_memory() > self.bytes_max {
                return Err(mlua::Error::runtime(
                    "the scripts hold more memory than they may",
                ));
            }
        }
        let function = self
            .scripts
            .get(&script)
            .expect("every script was compiled at start");
        reply(&function.call::<Value>(())?)
    }

    /// The keys themselves, for who plays an operator, a failover or a broken host.
    pub fn keyspace(&self) -> RefMut<'_, Keyspace> {
        self.keyspace.borrow_mut()
    }

    /// The map that the key will have when it is made next.
    pub fn room(&mut self, key: &str, fields: Fields) {
        self.keyspace.borrow_mut().room(key.as_bytes(), fields);
    }
}

fn reply(value: &Value) -> mlua::Result<Reply> {
    Ok(match value {
        Value::Nil | Value::Boolean(false) => Reply::Nil,
        Value::Boolean(true) => Reply::Int(1),
        Value::Integer(n) => Reply::Int(*n),
        // Redis truncates.
        Value::Number(n) => Reply::Int(*n as i64),
        Value::String(s) => Reply::Bytes(Bytes::copy_from_slice(&s.as_bytes())),
        Value::Table(t) => {
            let mut items = Vec::with_capacity(t.raw_len());
            for i in 1.. {
                let item: Value = t.raw_get(i)?;
                if item.is_nil() {
                    break;
                }
                items.push(reply(&item)?);
            }
            Reply::Array(items)
        }
        other => {
            return Err(mlua::Error::runtime(format!(
                "a script cannot reply with a {}",
                other.type_name()
            )));
        }
    })
}

/// The commands of `lua/README.md`, and no others. Arguments come as owned bytes:
/// what `HSET` stores is moved, not copied again.
fn command(lua: &Lua, keyspace: &RefCell<Keyspace>, mut args: Vec<BString>) -> mlua::Result<Value> {
    let wrong = |name: &str| {
        mlua::Error::runtime(format!(
            "ERR wrong number of arguments for '{name}' command"
        ))
    };
    if args.is_empty() {
        return Err(mlua::Error::runtime(
            "Please specify at least one argument for this redis.call() call",
        ));
    }
    let name = std::mem::take(&mut args[0]);
    match (name.as_slice(), args.len()) {
        (b"HMGET", 3..) => {
            let keyspace = keyspace.borrow();
            let (key, fields) = (&args[1], &args[2..]);
            let hash = keyspace.fields(key);
            let values = fields.iter().map(|field| hash.and_then(|h| h.get(field)));
            Ok(Value::Table(sequence(lua, values)?))
        }
        (b"HSET", n) if n >= 4 && n % 2 == 0 => {
            let mut keyspace = keyspace.borrow_mut();
            let mut args = args.into_iter().skip(1);
            let Some(key) = args.next() else {
                return Err(wrong("hset"));
            };
            let hash = keyspace.fields_mut(&key);
            let mut added = 0;
            while let (Some(field), Some(value)) = (args.next(), args.next()) {
                let field = Vec::from(field).into_boxed_slice();
                added += i64::from(hash.insert(field, Vec::from(value).into_boxed_slice()));
            }
            Ok(Value::Integer(added))
        }
        (b"HDEL", 3..) => {
            let n = keyspace
                .borrow_mut()
                .delete_fields(&args[1], args[2..].iter().map(|f| f.as_slice()));
            Ok(Value::Integer(n))
        }
        (b"HLEN", 2) => Ok(Value::Integer(
            i64::try_from(keyspace.borrow().len(&args[1])).unwrap_or(i64::MAX),
        )),
        (b"UNLINK", 2..) => {
            let mut keyspace = keyspace.borrow_mut();
            let n = args[1..].iter().filter(|key| keyspace.unlink(key)).count();
            Ok(Value::Integer(i64::try_from(n).unwrap_or(i64::MAX)))
        }
        (known @ (b"HMGET" | b"HSET" | b"HDEL" | b"HLEN" | b"UNLINK"), _) => {
            Err(wrong(&String::from_utf8_lossy(known).to_lowercase()))
        }
        (other, _) => Err(mlua::Error::runtime(format!(
            "ERR unknown command '{}': the embedded host runs what lua/README.md lists",
            other.escape_ascii()
        ))),
    }
}

/// An array of texts, `false` for what is missing. mlua pushes text as it is;
/// other bytes need a handle each, so they follow one by one.
fn sequence<'a>(lua: &Lua, values: impl Iterator<Item = Option<&'a [u8]>>) -> mlua::Result<Table> {
    let mut others = SmallVec::<[(usize, &[u8]); 64]>::new();
    let table = lua.create_sequence_from(values.enumerate().map(|(i, value)| match value {
        None => Either::Right(false),
        Some(bytes) => Either::Left(std::str::from_utf8(bytes).unwrap_or_else(|_| {
            others.push((i + 1, bytes));
            ""
        })),
    }))?;
    for (at, bytes) in others {
        table.raw_set(at, lua.create_string(bytes)?)?;
    }
    Ok(table)
}
