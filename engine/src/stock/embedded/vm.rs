//! One Lua 5.1 VM that behaves like Redis towards the shared scripts.
//!
//! It offers `redis.call` for the commands that `lua/README.md` lists, with
//! Redis's conversions: numbers go in as text, missing comes out as `false`,
//! and a reply array ends at its first nil.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use bytes::Bytes;
use mlua::{Function, Lua, LuaOptions, LuaString, StdLib, Table, Value, Variadic};

use super::keyspace::Keyspace;
use crate::stock::host::{Args, BucketRef, Reply, Script};
use crate::stock::script;

pub struct Vm {
    lua: Lua,
    scripts: HashMap<Script, Function>,
    keys: Table,
    argv: Table,
    argv_len: usize,
    keyspace: Rc<RefCell<Keyspace>>,
    names: HashMap<BucketRef, [LuaString; 6]>,
}

impl Vm {
    pub fn new(bytes_max: usize) -> mlua::Result<Self> {
        let lua = Lua::new_with(
            StdLib::TABLE | StdLib::STRING | StdLib::MATH,
            LuaOptions::default(),
        )?;
        lua.set_memory_limit(bytes_max)?;
        let keyspace = Rc::new(RefCell::new(Keyspace::default()));
        let redis = lua.create_table()?;
        let shared = Rc::clone(&keyspace);
        redis.set(
            "call",
            lua.create_function(move |lua, args: Variadic<LuaString>| {
                command(lua, &shared, &args)
            })?,
        )?;
        let globals = lua.globals();
        globals.set("redis", redis)?;
        let (keys, argv) = (lua.create_table()?, lua.create_table()?);
        globals.set("KEYS", &keys)?;
        globals.set("ARGV", &argv)?;
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
            keys,
            argv,
            argv_len: 0,
            keyspace,
            names: HashMap::new(),
        })
    }

    pub fn run(&mut self, bucket: &BucketRef, script: Script, args: &Args) -> mlua::Result<Reply> {
        if !self.names.contains_key(bucket) {
            let names = bucket.keys();
            let made = [
                self.lua.create_string(&names[0])?,
                self.lua.create_string(&names[1])?,
                self.lua.create_string(&names[2])?,
                self.lua.create_string(&names[3])?,
                self.lua.create_string(&names[4])?,
                self.lua.create_string(&names[5])?,
            ];
            self.names.insert(bucket.clone(), made);
        }
        for (i, name) in self.names[bucket].iter().enumerate() {
            self.keys.raw_set(i + 1, name)?;
        }
        for (i, arg) in args.iter().enumerate() {
            self.argv.raw_set(i + 1, self.lua.create_string(arg)?)?;
        }
        // The table is used again: what an earlier, longer call left must go.
        for stale in args.len()..self.argv_len {
            self.argv.raw_set(stale + 1, Value::Nil)?;
        }
        self.argv_len = args.len();
        let function = self
            .scripts
            .get(&script)
            .expect("every script was compiled at start");
        reply(&function.call::<Value>(())?)
    }

    pub fn make_room(&mut self, bucket: &BucketRef, orders: usize) {
        let mut keyspace = self.keyspace.borrow_mut();
        let names = bucket.keys();
        for name in &names[2..5] {
            keyspace.make_room(name.as_bytes(), orders + 1);
        }
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

/// The commands of `lua/README.md`, and no others.
fn command(lua: &Lua, keyspace: &RefCell<Keyspace>, args: &[LuaString]) -> mlua::Result<Value> {
    let wrong = |name: &str| {
        mlua::Error::runtime(format!(
            "ERR wrong number of arguments for '{name}' command"
        ))
    };
    let Some((name, rest)) = args.split_first() else {
        return Err(mlua::Error::runtime(
            "Please specify at least one argument for this redis.call() call",
        ));
    };
    match (&*name.as_bytes(), rest) {
        (b"HMGET", [key, fields @ ..]) if !fields.is_empty() => {
            let keyspace = keyspace.borrow();
            let table = lua.create_table_with_capacity(fields.len(), 0)?;
            let hash = keyspace.fields(&key.as_bytes());
            for (i, field) in fields.iter().enumerate() {
                let found = hash.and_then(|h| h.get(&*field.as_bytes()));
                match found {
                    Some(value) => table.raw_set(i + 1, lua.create_string(value)?)?,
                    None => table.raw_set(i + 1, false)?,
                }
            }
            Ok(Value::Table(table))
        }
        (b"HSET", [key, pairs @ ..]) if !pairs.is_empty() && pairs.len() % 2 == 0 => {
            let mut keyspace = keyspace.borrow_mut();
            let hash = keyspace.fields_mut(&key.as_bytes());
            let mut added = 0;
            for pair in pairs.chunks_exact(2) {
                let (field, value) = (pair[0].as_bytes(), pair[1].as_bytes());
                match hash.get_mut(&*field) {
                    Some(old) => *old = (*value).into(),
                    None => {
                        hash.insert((*field).into(), (*value).into());
                        added += 1;
                    }
                }
            }
            Ok(Value::Integer(added))
        }
        (b"HDEL", [key, fields @ ..]) if !fields.is_empty() => {
            let fields: Vec<_> = fields.iter().map(LuaString::as_bytes).collect();
            let n = keyspace
                .borrow_mut()
                .delete_fields(&key.as_bytes(), fields.iter().map(|f| &**f));
            Ok(Value::Integer(n))
        }
        (b"HLEN", [key]) => Ok(Value::Integer(
            keyspace.borrow().len(&key.as_bytes()).cast_signed() as i64,
        )),
        (b"UNLINK", [_, ..]) => {
            let mut keyspace = keyspace.borrow_mut();
            let n = rest
                .iter()
                .filter(|key| keyspace.unlink(&key.as_bytes()))
                .count();
            Ok(Value::Integer(n.cast_signed() as i64))
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
