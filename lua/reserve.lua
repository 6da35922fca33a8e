-- reserve: sets units aside for a batch of orders, once per order id.
--
-- ARGV  6 now_ms  7 count, then per request:
--       order id · user · user:key · fingerprint · units_max · mark · version · again (0/1) · blob
--       · n_items, then n_items × (sku · quantity)
-- REPLY {0, n, code, code, …}   one code a request:
--       0 held   1 replay: the key names an order with this fingerprint
--       2 key reused with another fingerprint   3 sale not open   4 sale ended
--       5 over the user's limit   6 not enough units   7 unknown SKU
--       8 clash: the order id stands here with other content
-- The order of the checks is the order of the list in lua/README.md: what was
-- already answered comes before every "no".
-- again = 1 takes fresh units for an order whose hold is gone but whose key is known.
-- TWICE the same n gives the same codes; a hold is found by its order id.
local stop, meta = enter('0')
if stop then
  return stop
end
local now, count = tonumber(ARGV[6]), tonumber(ARGV[7])
local phase = 0
if now < tonumber(meta[5]) then
  phase = 3
elseif now >= tonumber(meta[6]) then
  phase = 4
end

-- Where each request's arguments begin, and every field to read in bulk.
local at, ids, users, useds, skus, sku_at = {}, {}, {}, {}, {}, {}
local a = 8
for i = 1, count do
  at[i], ids[i], users[i], useds[i] = a, ARGV[a], ARGV[a + 1], ARGV[a + 2]
  local n_items = tonumber(ARGV[a + 9])
  for item = a + 10, a + 8 + 2 * n_items, 2 do
    local sku = ARGV[item]
    if not sku_at[sku] then
      skus[#skus + 1] = 'a:' .. sku
      skus[#skus + 1] = 'h:' .. sku
      sku_at[sku] = #skus - 1
    end
  end
  a = a + 10 + 2 * n_items
end
local holds, used, units, stock = hmget(HOLDS, ids), hmget(USED, useds), hmget(USERS, users), hmget(STOCK, skus)
for i = 1, #stock do
  stock[i] = stock[i] and tonumber(stock[i])
end

-- What this very batch changed counts for its later requests.
local used_now, units_now, held_now = {}, {}, {}
local put_holds, put_used, touched = {}, {}, false
local digest = tonumber(meta[4])
local reply = {0, N}

for i = 1, count do
  local p = at[i]
  local id, user, slot, fp = ids[i], users[i], useds[i], ARGV[p + 3]
  local known = used_now[slot] or used[i]
  local again = ARGV[p + 7] == '1' and known == fp .. ':' .. id
  local code
  if holds[i] or held_now[id] then
    code = (known == fp .. ':' .. id) and 0 or 8
  elseif known and not again then -- CHECK:key
    code = (string.sub(known, 1, 32) == fp) and 1 or 2
  elseif phase ~= 0 then
    code = phase
  else
    local n_items, asked, wants = tonumber(ARGV[p + 9]), 0, {}
    code = 0
    for item = p + 10, p + 8 + 2 * n_items, 2 do
      local s, quantity = sku_at[ARGV[item]], tonumber(ARGV[item + 1])
      asked = asked + quantity
      wants[s] = (wants[s] or 0) + quantity
      if not stock[s] then
        code = 7
      end
    end
    local live = units_now[user] or tonumber(units[i] or 0)
    if code == 0 and live + asked > tonumber(ARGV[p + 4]) then
      code = 5
    end
    if code == 0 then
      for s, quantity in pairs(wants) do
        if stock[s] < quantity then -- CHECK:stock
          code = 6
        end
      end
    end
    if code == 0 then
      for s, quantity in pairs(wants) do
        stock[s] = stock[s] - quantity
        stock[s + 1] = stock[s + 1] + quantity
      end
      touched = true
      units_now[user], used_now[slot], held_now[id] = live + asked, fp .. ':' .. id, true
      local n = #put_holds
      put_holds[n + 1], put_holds[n + 2] = id, ARGV[p + 6] .. ':' .. ARGV[p + 5] .. ':' .. ARGV[p + 8]
      put_used[n + 1], put_used[n + 2] = slot, used_now[slot]
      digest = digest + tonumber(ARGV[p + 5])
    end
  end
  reply[i + 2] = code
end

if touched then
  local put_stock, put_units = {}, {}
  for i = 1, #skus do
    if stock[i] then
      put_stock[#put_stock + 1] = skus[i]
      put_stock[#put_stock + 1] = stock[i]
    end
  end
  for user, live in pairs(units_now) do
    put_units[#put_units + 1] = user
    put_units[#put_units + 1] = live
  end
  hset(HOLDS, put_holds)
  hset(USED, put_used)
  hset(USERS, put_units)
  hset(STOCK, put_stock)
end
leave(digest % DIGEST_SPAN)
return reply
