-- reserve: sets units aside for a batch of orders, once per user:key.
--
-- ARGV  6 now_ms  7 again (0/1)  8 units_max  9 count, then per request:
--       user · mark · entry · n_items, then n_items × (sku · quantity)
--       units_max: what a user may have live; mark and entry: see lua/README.md
-- REPLY {0, n, code, code, …}   one code a request:
--       0 held   1 replay: the key names an order with this fingerprint
--       2 key reused with another fingerprint   3 sale not open   4 sale ended
--       5 over the user's limit   6 not enough units   7 unknown SKU
-- The order of the checks is the order of the list in lua/README.md: what was
-- already answered comes before every "no".
-- again = 1 takes fresh units for orders that are here and live no more.
-- TWICE the same codes, as remembered; under another n a live order is found by its key.
local stop, meta = enter('0')
stop = stop or remembered(meta)
if stop then
  return stop
end
local now, again, units_max, count = tonumber(ARGV[6]), ARGV[7] == '1', tonumber(ARGV[8]), tonumber(ARGV[9])
local phase = 0
if now < tonumber(meta[5]) then
  phase = 3
elseif now >= tonumber(meta[6]) then
  phase = 4
end

-- Where each request's items begin and end, and every field to read in bulk.
local first, last, names, skus, sku_at = {}, {}, {}, {}, {}
local a = 10
for i = 1, count do
  names[i] = ARGV[a]
  local from = a + 4
  a = from + 2 * ARGV[a + 3]
  first[i], last[i] = from, a - 1
  for item = from, a - 1, 2 do
    local sku = ARGV[item]
    -- Read thrice below.
    ARGV[item + 1] = tonumber(ARGV[item + 1])
    if not sku_at[sku] then
      skus[#skus + 1] = 'a:' .. sku
      skus[#skus + 1] = 'h:' .. sku
      sku_at[sku] = #skus - 1
    end
  end
end
local users, stock = hmget(USERS, names), hmget(STOCK, skus)
-- Whoever has a field of an order has one of their own: of a buyer's first order nothing
-- is there, and most have no other.
local asked, slots, own_slots = {}, {}, {}
local function look(i)
  local _, key, order = standing(ARGV[first[i] - 2])
  asked[i], slots[i] = order, names[i] .. ':' .. key
end
for i = 1, count do
  if users[i] then
    look(i)
    own_slots[#own_slots + 1] = slots[i]
  end
end
local orders, found = {}, hmget(ORDERS, own_slots)
for k = 1, #own_slots do
  orders[own_slots[k]] = found[k]
end
for i = 1, #stock do
  stock[i] = stock[i] and tonumber(stock[i])
end

-- Moves units of one request's items from available to held, or back.
local function take(from, to, sign)
  local short = false
  for item = from, to, 2 do
    local s, quantity = sku_at[ARGV[item]], sign * ARGV[item + 1]
    stock[s], stock[s + 1] = stock[s] - quantity, stock[s + 1] + quantity
    short = short or stock[s] < 0 -- CHECK:stock
  end
  return short
end

-- What this very batch changed counts for its later requests.
local users_now, user_at = {}, {}
local put_orders, put_users, n_orders, n_users = {}, {}, 0, 0
local digest, n_live = tonumber(meta[4]), tonumber(meta[7])
local reply, codes = {0, N}, {}

for i = 1, count do
  local user, from, to = names[i], first[i], last[i]
  local entry, under_user = ARGV[from - 2], users_now[user] or users[i]
  local live, key, known = 0, nil, nil
  local own, live_here = false, false
  if under_user then
    if not slots[i] then
      look(i)
    end
    local order
    live, key, order = standing(under_user)
    known = key and user .. ':' .. key == slots[i] and order or orders[slots[i]]
  end
  if known then
    local name, version = named(known)
    own, live_here = name == named(asked[i]), version ~= nil
  end
  local code = 0
  if own and live_here then
    code = 0
  elseif known and not (own and again) then -- CHECK:key
    code = string.sub(known, 1, 32) == string.sub(asked[i], 1, 32) and 1 or 2
  elseif phase ~= 0 then
    code = phase
  else
    local before = live
    for item = from, to, 2 do
      live = live + ARGV[item + 1]
      if not stock[sku_at[ARGV[item]]] then
        code = 7
      end
    end
    if code == 0 and live > units_max then -- CHECK:limit
      code = 5
    end
    if code == 0 and take(from, to, 1) then
      take(from, to, -1)
      code = 6
    end
    if code == 0 then
      local place = user_at[user]
      if not place then
        place, n_users = n_users + 1, n_users + 2
        user_at[user], put_users[place] = place, user
      end
      if known or key then
        -- Its name stands in a field of its own already, or another order stands here.
        entry = counted(live, under_user or '0')
        orders[slots[i]] = asked[i]
        put_orders[n_orders + 1], put_orders[n_orders + 2] = slots[i], asked[i]
        n_orders = n_orders + 2
      elseif before > 0 then
        entry = counted(live, entry)
      end
      users_now[user], put_users[place + 1] = entry, entry
      digest, n_live = digest + ARGV[from - 3], n_live + 1
    end
  end
  reply[i + 2], codes[i] = code, DIGITS[code]
end

if n_users > 0 then
  local put_stock = {}
  for i = 1, #skus do
    if stock[i] then
      put_stock[#put_stock + 1] = skus[i]
      put_stock[#put_stock + 1] = stock[i]
    end
  end
  hset(ORDERS, put_orders)
  hset(USERS, put_users)
  hset(STOCK, put_stock)
end
leave(digest % DIGEST_SPAN, n_live)
remember(codes)
return reply
