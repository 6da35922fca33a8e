-- reserve.4.lua: one order a call, in Redis.
--
-- KEYS  1 stock   hash  sku -> units left     2 requests  hash  user/key -> order id
--       3 buyers  hash  user -> units         4 order     hash  the order
-- ARGV  1 user  2 key  3 sku  4 quantity  5 units_per_user  6 order id
--       7 price_cent  8 now_ms  9 pay_deadline_ms
-- REPLY {code, order id}   0 won, 1 sold out, 2 user limit, 3 won before under this key
-- TWICE the first order id is returned; nothing moves.
local request = ARGV[1] .. "/" .. ARGV[2]
local before = redis.call("HGET", KEYS[2], request)
if before then
    return { 3, before }
end
local quantity = tonumber(ARGV[4])
local has = tonumber(redis.call("HGET", KEYS[3], ARGV[1]) or "0")
if has + quantity > tonumber(ARGV[5]) then
    return { 2, "" }
end
local left = tonumber(redis.call("HGET", KEYS[1], ARGV[3]) or "0")
if left < quantity then
    return { 1, "" }
end
redis.call("HINCRBY", KEYS[1], ARGV[3], -quantity)
redis.call("HINCRBY", KEYS[3], ARGV[1], quantity)
redis.call("HSET", KEYS[2], request, ARGV[6])
redis.call("HSET", KEYS[4], "user", ARGV[1], "key", ARGV[2], "sku", ARGV[3], "quantity", ARGV[4],
    "price_cent", ARGV[7], "status", "PENDING_PAYMENT", "created_at", ARGV[8], "pay_deadline_at", ARGV[9])
return { 0, ARGV[6] }
