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
local at, slots, names, first, last = {}, {}, {}, {}, {}
local n_moves, from, to, moved = 0, {}, {}, {}
local fields, field_at = {}, {}
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
  local move, stop_at = MOVE[ARGV[a + 5]], a + 9 + 2 * ARGV[a + 10]
  names[i] = ARGV[a + 6]
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
local orders, users, before, stock = hmget(ORDERS, slots), hmget(USERS, names), hmget(STOCK, fields), {}
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

local orders_now, users_now = {}, {}
local digest, n_live = tonumber(meta[4]), tonumber(meta[7])
local reply, codes = {0, N}, {}
for i = 1, count do
  local p = at[i]
  local slot, user, keep, released = slots[i], names[i], ARGV[p + 8] == '1', ARGV[p + 7]
  local under_user = users_now[user] or users[i] or '0'
  local live, key, order = standing(under_user)
  local with_user = key and user .. ':' .. key == slot
  if not with_user then
    order = orders_now[slot] or orders[i] or ''
  end
  local name, version, mark = named(order)
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
    live = math.max(0, live - released)
    if keep then
      digest = digest + tonumber(ARGV[p + 4])
      order = name .. ':' .. ARGV[p + 3] .. ':' .. ARGV[p + 4] .. ':' .. ARGV[p + 9]
    else
      order, n_live = name, n_live - 1
    end
    if with_user and keep then
      users_now[user] = text(live) .. ':' .. #key .. ':' .. key .. ':' .. order
    else
      orders_now[slot] = order
      if with_user then
        users_now[user] = text(live)
      elseif released ~= '0' then
        users_now[user] = counted(live, under_user)
      end
    end
  end
  reply[i + 2], codes[i] = code, DIGITS[code]
end

local put, put_users, put_stock = {}, {}, {}
for slot, order in pairs(orders_now) do
  put[#put + 1] = slot
  put[#put + 1] = order
end
for user, value in pairs(users_now) do
  put_users[#put_users + 1] = user
  put_users[#put_users + 1] = value
end
for i = 1, #fields do
  if stock[i] ~= before[i] then
    put_stock[#put_stock + 1] = fields[i]
    put_stock[#put_stock + 1] = stock[i]
  end
end
hset(ORDERS, put)
hset(USERS, put_users)
hset(STOCK, put_stock)
leave(digest % DIGEST_SPAN, n_live)
remember(codes)
return reply
