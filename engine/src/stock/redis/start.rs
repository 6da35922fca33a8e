//! What is asked of every server before the stock is trusted to it.
//!
//! A server that may throw keys away would forget holds without a word, so one whose
//! `maxmemory-policy` is another than `noeviction` is refused. So is one where our user
//! may not do what the scripts do: each of their calls would be asked again for ever.

use fred::clients::Client;
use fred::error::{Error, ErrorKind};
use fred::interfaces::{ClientLike, ClusterInterface, ConfigInterface, LuaInterface};
use fred::types::{InfoKind, Value};

use super::client::Settings;
use super::slots::Slots;
use crate::config::RedisServer;

const POLICY: &str = "maxmemory-policy";
/// Which of its arguments, each a command, the user who calls it may not call.
const FORBIDDEN: &str = include_str!("forbidden.lua");
/// What scripts and readers of the stock call, beside EVALSHA itself; `config/redis.acl` as
/// commands.
const NEEDED: [&str; 7] = [
    "hmget {fg:key} field",
    "hset {fg:key} field value",
    "hdel {fg:key} field",
    "hlen {fg:key}",
    "hscan {fg:key} 0",
    "scan 0",
    "unlink {fg:key}",
];
const NEEDED_IN_CLUSTERS: [&str; 2] = ["cluster slots", "asking"];

/// The one that keeps every key.
pub const KEEPS_ALL: &str = "noeviction";

/// Connects once, looks, and leaves. Every problem names the server.
pub async fn look(
    settings: &Settings,
    server: &RedisServer,
    cluster: bool,
    a_script: &str,
) -> Result<Slots, String> {
    let client = settings.client(server);
    let running = client.init().await.map_err(|e| {
        // Two that wait for each other's first word.
        let hint = match (settings.tls.is_some(), e.kind()) {
            (true, ErrorKind::Timeout) => "; rediss:// is for ports that speak TLS",
            _ => "",
        };
        format!("connect to the stock server {server}: {e}{hint}")
    })?;
    let looked = ask(&client, server, cluster, a_script).await;
    running.abort();
    looked
}

async fn ask(
    client: &Client,
    server: &RedisServer,
    cluster: bool,
    a_script: &str,
) -> Result<Slots, String> {
    match policy(client).await {
        Ok(Some(found)) if found != KEEPS_ALL => {
            return Err(format!(
                "the stock server {server} has {POLICY} {found}, by which it may forget orders; \
                 allowed is {KEEPS_ALL}"
            ));
        }
        Ok(Some(_)) => {}
        Ok(None) => tracing::warn!(
            %server,
            "the stock server does not say its {POLICY}; it must be {KEEPS_ALL}"
        ),
        Err(why) => tracing::warn!(
            %server,
            why,
            "our user may not ask the stock server for its {POLICY}; it must be {KEEPS_ALL}"
        ),
    }
    if !cluster {
        if says(client, InfoKind::Cluster, "cluster_enabled:1").await {
            return Err(format!(
                "the stock server {server} is a member of a cluster; say cluster = true"
            ));
        }
        // A replica answers every question that is asked here, and takes no call later. In
        // a cluster it names the primaries.
        if says(client, InfoKind::Replication, "role:slave").await {
            return Err(format!(
                "the stock server {server} is a replica; name its primary"
            ));
        }
    }
    let () = client
        .script_load(a_script)
        .await
        .map_err(|e| format!("load a script into the stock server {server}: {e}"))?;
    let forbidden = forbidden(client, cluster)
        .await
        .map_err(|e| format!("ask the stock server {server} what our user may do: {e}"))?;
    if !forbidden.is_empty() {
        return Err(format!(
            "our user may not call {} on the stock server {server}; config/redis.acl has what it \
             needs",
            forbidden.join(", ")
        ));
    }
    if !cluster {
        return Ok(Slots::all_at(server.clone()));
    }
    let said: Value = client
        .cluster_slots()
        .await
        .map_err(|e| format!("ask {server} for the cluster's slots: {e}"))?;
    let slots = Slots::parse(&said, server)
        .ok_or_else(|| format!("{server} tells the cluster's slots in a form that is not known"))?;
    match slots.missing() {
        0 => Ok(slots),
        n => Err(format!(
            "{n} slots of the cluster have no server, says {server}"
        )),
    }
}

/// By the names of the commands.
async fn forbidden(client: &Client, cluster: bool) -> Result<Vec<String>, Error> {
    let mut needed = NEEDED.to_vec();
    if cluster {
        needed.extend(NEEDED_IN_CLUSTERS);
    }
    let sha: String = client.script_load(FORBIDDEN).await?;
    let calls: Vec<String> = client.evalsha(sha, Vec::<String>::new(), needed).await?;
    let names = calls.iter().map(|call| match call.split_once(" {fg:") {
        Some((name, _)) => name.to_owned(),
        None => call.trim_end_matches(" 0").to_owned(),
    });
    Ok(names.collect())
}

/// Whether INFO has the line; one that we may not ask for is not there.
async fn says(client: &Client, part: InfoKind, line: &str) -> bool {
    let told: Result<String, Error> = client.info(Some(part)).await;
    told.is_ok_and(|text| text.lines().any(|told| told.trim() == line))
}

/// CONFIG tells it, or INFO where the user may not use that.
pub async fn policy(client: &Client) -> Result<Option<String>, String> {
    let text = |error: Error| error.to_string();
    if let Ok(Value::Array(pair)) = client.config_get::<Value, _>(POLICY).await
        && let Some(found) = pair.get(1).and_then(Value::as_string)
    {
        return Ok(Some(found));
    }
    let info: String = client.info(Some(InfoKind::Memory)).await.map_err(text)?;
    Ok(info
        .lines()
        .find_map(|line| line.strip_prefix("maxmemory_policy:"))
        .map(|found| found.trim().to_owned()))
}
