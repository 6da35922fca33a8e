-- Prelude: stands in front of every script; the loader joins the two texts, so
-- that each host is sent one text per script.
--
-- KEYS  1 meta  2 stock  3 orders  4 users  5 moves  6 tail   (all {fg:<sale>:<bucket>}:…)
-- ARGV  1 epoch  2 n  3 acked  4 owner  5 durable seq, then the script's own
--
-- Every call carries (epoch, n, acked). n is never used again for another
-- composition; acked is the last n whose reply was seen. owner is the ledger's id and
-- the run of the engine that calls.
-- REPLY {2, epoch, n} CHANGED: the bucket is not what the caller last saw
--       {1, epoch, n} STALE:   a late copy of an old call; nothing was done
--       {3, epoch, n} TAKEN:   the bucket is another engine's; nothing was done
--       {0, n, …}     the script's own answer
local call = redis.call
local META, STOCK, ORDERS, USERS, MOVES, TAIL = unpack(KEYS)
local N = tonumber(ARGV[2])
local DIGEST_SPAN = 1099511627776 -- 2^40

-- An epoch is given once, by one owner: a newer one, or this one of somebody else, is
-- not ours to sell from.
local function taken(epoch, owner)
  local there, ours = tonumber(epoch), tonumber(ARGV[1])
  return there > ours or there == ours and owner ~= ARGV[4] -- CHECK:epoch
end

-- Reads meta and applies the protocol. Returns a reply to give at once, or nil
-- and the fields epoch, n, building, digest, starts, ends, live.
local function enter(building)
  local m = call('HMGET', META, 'epoch', 'n', 'building', 'digest', 'starts', 'ends', 'live', 'ledger')
  if not m[1] then
    return {2, '', 0}
  end
  local at = tonumber(m[2])
  if taken(m[1], m[8]) then
    return {3, m[1], at}
  end
  local other = m[1] ~= ARGV[1] -- CHECK:epoch
  local behind = at < tonumber(ARGV[3]) -- CHECK:acked
  if other or behind or m[3] ~= building then
    return {2, m[1], at}
  end
  if at > N then -- CHECK:n
    return {1, m[1], at}
  end
  return nil, m
end

-- Stores n, the digest, how many orders are live, and what the ledger last said of itself.
local function leave(digest, live)
  call('HSET', META, 'n', ARGV[2], 'digest', digest, 'live', live, 'ledger', ARGV[4], 'seq', ARGV[5])
end

-- A batch that was judged again would be judged by what it changed itself: a copy
-- of the last call gets the answer that the call got. Codes are single digits.
local DIGITS = {[0] = '0', '1', '2', '3', '4', '5', '6', '7', '8', '9'}
local function remember(codes)
  call('HSET', META, 'codes', table.concat(codes))
end
local function remembered(meta)
  if tonumber(meta[2]) ~= N then
    return nil
  end
  local codes, reply = call('HMGET', META, 'codes')[1], {0, N}
  for i = 1, #codes do
    reply[i + 2] = string.byte(codes, i) - 48
  end
  return reply
end

-- What an order is called (fingerprint:order id), and while it is live its version and mark.
local function named(order)
  local name, version, mark = string.match(order, '^([^:]+:[^:]+):(%d+):(%d+):')
  return name or order, version, mark
end

-- What stands under a user: units in live orders, and the one of those orders that needs
-- no field of its own, as units:length of its key:key:order.
local function standing(value)
  local units, length, at = string.match(value, '^(%d+):(%d+):()')
  if not units then
    return tonumber(value)
  end
  local key_end = at + length
  return tonumber(units), string.sub(value, at, key_end - 1), string.sub(value, key_end + 1)
end

-- A number on its way into a hash. Most of a batch's are the same few, and turning one
-- into text costs as much as a look into a hash.
local TEXTS = {}
local function text(number)
  local known = TEXTS[number]
  if not known then
    known = string.format('%.0f', number)
    TEXTS[number] = known
  end
  return known
end

-- The same, with other units.
local function counted(units, value)
  local rest = string.find(value, ':', 1, true)
  return rest and text(units) .. string.sub(value, rest) or text(units)
end

-- Lua's stack ends near 8,000 values: bulk commands go in pieces.
local function hmget(key, fields)
  local n = #fields
  if n == 0 then
    return {}
  end
  if n <= 4000 then
    return call('HMGET', key, unpack(fields))
  end
  local all = {}
  for from = 1, n, 4000 do
    local part = call('HMGET', key, unpack(fields, from, math.min(n, from + 3999)))
    for i = 1, #part do
      all[from + i - 1] = part[i]
    end
  end
  return all
end

local function hset(key, pairs_)
  for from = 1, #pairs_, 4000 do
    call('HSET', key, unpack(pairs_, from, math.min(#pairs_, from + 3999)))
  end
end
