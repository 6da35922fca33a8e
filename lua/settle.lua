-- settle: follows durable changes of orders; the ledger decided, the stock obeys.
--
-- ARGV  6 count, then per request:
--       order id · from version · to version · mark after · move · user · units released
--       · keep (0/1) · blob · n_items, then n_items × (sku · quantity)
--       move: pay held→sold · none · close held→available · restock sold→available
--             · withdraw sold→withdrawn
--       keep = 0 removes the hold: the order is no longer live
-- REPLY {0, n, code, …}   0 done   1 another version stands here
--       2 the hold is missing   3 the counters cannot make this move
-- TWICE the same codes, as remembered; under another n a request whose version
-- stands here already, or whose hold is gone with keep = 0, is done.
local stop, meta = enter('0')
stop = stop or remembered(meta)
if stop then
  return stop
end
local MOVE = {pay = {'h:', 's:'}, close = {'h:', 'a:'}, restock = {'s:', 'a:'}, withdraw = {'s:', 'w:'}}
local count = tonumber(ARGV[6])
-- Where each request's moves begin and end: units of fields[from] go to fields[to].
local at, ids, first, last = {}, {}, {}, {}
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
  at[i], ids[i] = a, ARGV[a]
  local move, user, stop_at = MOVE[ARGV[a + 4]], ARGV[a + 5], a + 8 + 2 * ARGV[a + 9]
  -- Most moves release nothing: the buyer's units are neither read nor written then.
  if ARGV[a + 6] ~= '0' and not user_at[user] then
    users[#users + 1] = user
    user_at[user] = #users
  end
  first[i] = n_moves + 1
  if move then
    for item = a + 10, stop_at, 2 do
      n_moves = n_moves + 1
      from[n_moves], to[n_moves] = field(move[1], ARGV[item]), field(move[2], ARGV[item])
      moved[n_moves] = tonumber(ARGV[item + 1])
    end
  end
  last[i] = n_moves
  a = stop_at + 2
end
local holds, units, before, stock = hmget(HOLDS, ids), hmget(USERS, users), hmget(STOCK, fields), {}
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

local hold_now, units_now = {}, {}
local digest = tonumber(meta[4])
local reply, codes = {0, N}, {}
for i = 1, count do
  local p = at[i]
  local id, keep, released = ids[i], ARGV[p + 7] == '1', ARGV[p + 6]
  local hold = hold_now[id]
  if hold == nil then
    hold = holds[i]
  end
  local code = 0
  if not hold then
    code = keep and 2 or 0
  else
    local version, mark = string.match(hold, '^(%d+):(%d+):')
    if version == ARGV[p + 2] then
      code = 0
    elseif version ~= ARGV[p + 1] then -- CHECK:version
      code = 1
    elseif shift(i, 1) then
      shift(i, -1)
      code = 3
    else
      digest = digest - tonumber(mark)
      if keep then
        digest = digest + tonumber(ARGV[p + 3])
        hold_now[id] = ARGV[p + 2] .. ':' .. ARGV[p + 3] .. ':' .. ARGV[p + 8]
      else
        hold_now[id] = false
      end
      if released ~= '0' then
        local user = ARGV[p + 5]
        local live = units_now[user] or tonumber(units[user_at[user]] or 0)
        units_now[user] = math.max(0, live - tonumber(released))
      end
    end
  end
  reply[i + 2], codes[i] = code, DIGITS[code]
end

local put, gone, put_units, put_stock = {}, {}, {}, {}
for id, hold in pairs(hold_now) do
  if hold then
    put[#put + 1] = id
    put[#put + 1] = hold
  else
    gone[#gone + 1] = id
  end
end
for user, live in pairs(units_now) do
  put_units[#put_units + 1] = user
  put_units[#put_units + 1] = live
end
for i = 1, #fields do
  if stock[i] ~= before[i] then
    put_stock[#put_stock + 1] = fields[i]
    put_stock[#put_stock + 1] = stock[i]
  end
end
hset(HOLDS, put)
if #gone > 0 then
  call('HDEL', HOLDS, unpack(gone))
end
hset(USERS, put_units)
hset(STOCK, put_stock)
leave(digest % DIGEST_SPAN)
remember(codes)
return reply
