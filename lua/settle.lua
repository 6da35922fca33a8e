-- settle: follows durable changes of orders; the ledger decided, the stock obeys.
--
-- ARGV  6 count, then per request:
--       user:key · name · from version · to version · mark after · move · user
--       · units released · keep (0/1) · body · n_items, then n_items × (sku · quantity)
--       move: pay held→sold · none · close held→available · restock sold→available
--             · withdraw sold→withdrawn
--       keep = 0: the order is no longer live; its name stays
-- REPLY {0, n, code, …}   0 done   1 another version stands here
--       2 it is not live here   3 the counters cannot make this move
-- TWICE the same codes, as remembered; under another n a request whose version
-- stands here already, or who is not live with keep = 0, is done.
local stop, meta = enter('0')
stop = stop or remembered(meta)
if stop then
  return stop
end
local MOVE = {pay = {'h:', 's:'}, close = {'h:', 'a:'}, restock = {'s:', 'a:'}, withdraw = {'s:', 'w:'}}
local count = tonumber(ARGV[6])
-- Where each request's moves begin and end: units of fields[from] go to fields[to].
local at, slots, first, last = {}, {}, {}, {}
local n_moves, from, to, moved = 0, {}, {}, {}
local fields, field_at = {}, {}
local users, user_at = {}, {}
local function field(kind, sku)
  local name = kind .. sku
  local where = field_at[name]
  if not where then
    where = #fields + 1
    fields[where], field_at[name] = name, where
  end
  return where
end
local a = 7
for i = 1, count do
  at[i], slots[i] = a, ARGV[a]
  local move, user, stop_at = MOVE[ARGV[a + 5]], ARGV[a + 6], a + 9 + 2 * ARGV[a + 10]
  -- Most moves release nothing: the buyer's units are neither read nor written then.
  if ARGV[a + 7] ~= '0' and not user_at[user] then
    users[#users + 1] = user
    user_at[user] = #users
  end
  first[i] = n_moves + 1
  if move then
    for item = a + 11, stop_at, 2 do
      n_moves = n_moves + 1
      from[n_moves], to[n_moves] = field(move[1], ARGV[item]), field(move[2], ARGV[item])
      moved[n_moves] = tonumber(ARGV[item + 1])
    end
  end
  last[i] = n_moves
  a = stop_at + 2
end
local orders, units, before, stock = hmget(ORDERS, slots), hmget(USERS, users), hmget(STOCK, fields), {}
for i = 1, #fields do
  before[i] = tonumber(before[i] or 0)
  stock[i] = before[i]
end

-- Makes one request's moves, or takes them back; whether a counter fell below zero.
local function shift(i, sign)
  local short = false
  for k = first[i], last[i] do
    local units_moved = sign * moved[k]
    stock[from[k]], stock[to[k]] = stock[from[k]] - units_moved, stock[to[k]] + units_moved
  end
  for k = first[i], last[i] do
    short = short or stock[from[k]] < 0
  end
  return short
end

local orders_now, units_now = {}, {}
local digest, n_live = tonumber(meta[4]), tonumber(meta[7])
local reply, codes = {0, N}, {}
for i = 1, count do
  local p = at[i]
  local slot, keep, released = slots[i], ARGV[p + 8] == '1', ARGV[p + 7]
  local name, version, mark = named(orders_now[slot] or orders[i] or '')
  local code = 0
  if not version or name ~= ARGV[p + 1] then
    code = keep and 2 or 0
  elseif version == ARGV[p + 3] then
    code = 0
  elseif version ~= ARGV[p + 2] then -- CHECK:version
    code = 1
  elseif shift(i, 1) then
    shift(i, -1)
    code = 3
  else
    digest = digest - tonumber(mark)
    if keep then
      digest = digest + tonumber(ARGV[p + 4])
      orders_now[slot] = name .. ':' .. ARGV[p + 3] .. ':' .. ARGV[p + 4] .. ':' .. ARGV[p + 9]
    else
      orders_now[slot], n_live = name, n_live - 1
    end
    if released ~= '0' then
      local user = ARGV[p + 6]
      local live = units_now[user] or tonumber(units[user_at[user]] or 0)
      units_now[user] = math.max(0, live - tonumber(released))
    end
  end
  reply[i + 2], codes[i] = code, DIGITS[code]
end

local put, put_units, put_stock = {}, {}, {}
for slot, order in pairs(orders_now) do
  put[#put + 1] = slot
  put[#put + 1] = order
end
for user, live in pairs(units_now) do
  put_units[#put_units + 1] = user
  put_units[#put_units + 1] = text(live)
end
for i = 1, #fields do
  if stock[i] ~= before[i] then
    put_stock[#put_stock + 1] = fields[i]
    put_stock[#put_stock + 1] = stock[i]
  end
end
hset(ORDERS, put)
hset(USERS, put_units)
hset(STOCK, put_stock)
leave(digest % DIGEST_SPAN, n_live)
remember(codes)
return reply
