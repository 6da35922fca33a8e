-- settle: follows durable changes of orders; the ledger decided, the stock obeys.
--
-- ARGV  6 count, then per request:
--       user · place · was · order · mark change · move · keep (0/1)
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
local at, names, units, first, last = {}, {}, {}, {}, {}
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
  at[i], names[i] = a, ARGV[a]
  local move, stop_at = MOVE[ARGV[a + 5]], a + 6 + 2 * ARGV[a + 7]
  units[i], first[i] = 0, n_moves + 1
  for item = a + 8, stop_at, 2 do
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
local users, before, stock = hmget(USERS, names), hmget(STOCK, fields), {}
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

-- Where under a user the place of a request ends; nothing if it is not there.
local function with_user(place, under_user)
  local units_end = (string.find(under_user, ':', 1, true) or #under_user + 1) - 1
  local from = units_end + 2
  return units_end, stands(place, under_user, from) and from + #place
end

-- The field of an order's own.
local function slot_of(i)
  local length_end = string.find(ARGV[at[i] + 1], ':', 1, true)
  return names[i] .. ':' .. string.sub(ARGV[at[i] + 1], length_end + 1, -2)
end

-- What stands with its user has no field of its own.
local orders, own_slots, units_ends, places = {}, {}, {}, {}
for i = 1, count do
  units_ends[i], places[i] = with_user(ARGV[at[i] + 1], users[i] or '0')
  if not places[i] then
    own_slots[#own_slots + 1] = slot_of(i)
  end
end
local found = hmget(ORDERS, own_slots)
for k = 1, #own_slots do
  orders[own_slots[k]] = found[k]
end

local orders_now, users_now = {}, {}
local digest, n_live = tonumber(meta[4]), tonumber(meta[7])
local reply, codes = {0, N}, {}
for i = 1, count do
  local p, user = at[i], names[i]
  local place, was, order = ARGV[p + 1], ARGV[p + 2], ARGV[p + 3]
  local keep = ARGV[p + 6] == '1'
  local under_user, units_end, order_at = users[i] or '0', units_ends[i], places[i]
  if users_now[user] then
    under_user = users_now[user]
    units_end, order_at = with_user(place, under_user)
  end
  local here, slot = under_user, nil
  if not order_at then
    slot = slot_of(i)
    here, order_at = orders_now[slot] or orders[slot] or '', 1
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
    digest, n_live = digest + ARGV[p + 4], keep and n_live or n_live - 1
    if not slot or not keep then
      local released = keep and 0 or units[i]
      local live = math.max(0, string.sub(under_user, 1, units_end) - released)
      if slot then
        users_now[user] = counted(live, under_user)
      elseif keep then
        users_now[user] = text(live) .. ':' .. place .. order
      else
        users_now[user] = text(live)
      end
    end
    if slot or not keep then
      orders_now[slot or slot_of(i)] = order
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
