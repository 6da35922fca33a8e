-- settle: follows durable changes of orders; the ledger decided, the stock obeys.
--
-- ARGV  6 count, then per request:
--       user:key · user · place · was · order · mark change · move · keep (0/1)
--       · n_items, then n_items × (sku · quantity)
--       place: what stands before it where it stands with its user, `<length of its key>:<key>:`
--       was: what it begins with before the change, `<name>:<version>:<mark>:`
--       order: as it stands from now on; keep = 0: it is no longer live, its name stays
--       mark change: by how much the digest grows, modulo 2^40
--       move: pay held→sold · none · close held→available · restock sold→available
--             · withdraw sold→withdrawn
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
local at, slots, names, units, first, last = {}, {}, {}, {}, {}, {}
local n_moves, from, to, moved = 0, {}, {}, {}
local fields, field_at = {}, {['h:'] = {}, ['s:'] = {}, ['a:'] = {}, ['w:'] = {}}
local function field(kind, sku)
  local where = field_at[kind][sku]
  if not where then
    where = #fields + 1
    fields[where], field_at[kind][sku] = kind .. sku, where
  end
  return where
end
local a = 7
for i = 1, count do
  at[i], slots[i], names[i] = a, ARGV[a], ARGV[a + 1]
  local move, stop_at = MOVE[ARGV[a + 6]], a + 7 + 2 * ARGV[a + 8]
  units[i], first[i] = 0, n_moves + 1
  for item = a + 9, stop_at, 2 do
    local quantity = tonumber(ARGV[item + 1])
    units[i] = units[i] + quantity
    if move then
      n_moves = n_moves + 1
      from[n_moves], to[n_moves] = field(move[1], ARGV[item]), field(move[2], ARGV[item])
      moved[n_moves] = quantity
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

-- Whether `part` stands in `whole` from `at` on.
local function stands(part, whole, at)
  return string.find(whole, part, at, true) == at
end

local orders_now, users_now = {}, {}
local digest, n_live = tonumber(meta[4]), tonumber(meta[7])
local reply, codes = {0, N}, {}
for i = 1, count do
  local p, slot, user = at[i], slots[i], names[i]
  local place, was, order = ARGV[p + 2], ARGV[p + 3], ARGV[p + 4]
  local keep = ARGV[p + 7] == '1'
  local under_user = users_now[user] or users[i] or '0'
  local units_end = (string.find(under_user, ':', 1, true) or #under_user + 1) - 1
  local with_user = stands(place, under_user, units_end + 2)
  local here, order_at = under_user, units_end + 2 + #place
  if not with_user then
    here, order_at = orders_now[slot] or orders[i] or '', 1
  end
  local is_as_it_was = stands(was, here, order_at) -- CHECK:version
  local code = 0
  if not is_as_it_was then
    local name, version = named(string.sub(here, order_at))
    local asked, next_version = named(order)
    if not version or name ~= asked then
      code = keep and 2 or 0
    elseif version ~= next_version then
      code = 1
    end
  elseif shift(i, 1) then
    shift(i, -1)
    code = 3
  else
    digest, n_live = digest + ARGV[p + 5], keep and n_live or n_live - 1
    if with_user or not keep then
      local released = keep and 0 or units[i]
      local live = math.max(0, string.sub(under_user, 1, units_end) - released)
      if not with_user then
        users_now[user] = counted(live, under_user)
      elseif keep then
        users_now[user] = text(live) .. ':' .. place .. order
      else
        users_now[user] = text(live)
      end
    end
    if not (with_user and keep) then
      orders_now[slot] = order
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
