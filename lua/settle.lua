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
local at, ids, users = {}, {}, {}
local fields, field_at = {}, {}
local a = 7
for i = 1, count do
  at[i], ids[i], users[i] = a, ARGV[a], ARGV[a + 5]
  local move, n_items = MOVE[ARGV[a + 4]], tonumber(ARGV[a + 9])
  if move then
    for item = a + 10, a + 8 + 2 * n_items, 2 do
      for side = 1, 2 do
        local field = move[side] .. ARGV[item]
        if not field_at[field] then
          fields[#fields + 1] = field
          field_at[field] = #fields
        end
      end
    end
  end
  a = a + 10 + 2 * n_items
end
local holds, units, stock = hmget(HOLDS, ids), hmget(USERS, users), hmget(STOCK, fields)
for i = 1, #stock do
  stock[i] = tonumber(stock[i] or 0)
end

local hold_now, units_now, moved = {}, {}, {}
local digest = tonumber(meta[4])
local reply, codes = {0, N}, {}
for i = 1, count do
  local p = at[i]
  local id, user, keep = ids[i], users[i], ARGV[p + 7] == '1'
  local hold = hold_now[id]
  if hold == nil then
    hold = holds[i]
  end
  local code
  if not hold then
    code = keep and 2 or 0
  else
    local version, mark = string.match(hold, '^(%d+):(%d+):')
    if version == ARGV[p + 2] then
      code = 0
    elseif version ~= ARGV[p + 1] then -- CHECK:version
      code = 1
    else
      local move, n_items = MOVE[ARGV[p + 4]], tonumber(ARGV[p + 9])
      code = 0
      local steps = {}
      if move then
        for item = p + 10, p + 8 + 2 * n_items, 2 do
          local from, quantity = field_at[move[1] .. ARGV[item]], tonumber(ARGV[item + 1])
          steps[from] = (steps[from] or 0) - quantity
          local to = field_at[move[2] .. ARGV[item]]
          steps[to] = (steps[to] or 0) + quantity
        end
        for field, step in pairs(steps) do
          if stock[field] + step < 0 then
            code = 3
          end
        end
      end
      if code == 0 then
        for field, step in pairs(steps) do
          stock[field], moved[field] = stock[field] + step, true
        end
        digest = digest - tonumber(mark)
        if keep then
          digest = digest + tonumber(ARGV[p + 3])
          hold_now[id] = ARGV[p + 2] .. ':' .. ARGV[p + 3] .. ':' .. ARGV[p + 8]
        else
          hold_now[id] = false
        end
        local live = units_now[user] or tonumber(units[i] or 0)
        units_now[user] = math.max(0, live - tonumber(ARGV[p + 6]))
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
for field in pairs(moved) do
  put_stock[#put_stock + 1] = fields[field]
  put_stock[#put_stock + 1] = stock[field]
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
