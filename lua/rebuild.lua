-- rebuild: makes the bucket anew from what the ledger knows, under a new epoch.
--
-- ARGV  6 step, then
--       begin  7 starts_ms  8 ends_ms  9 sale, kept as it is    n must be 1, acked 0
--       chunk  7 kind (live, closed, user, stock, move or tail)  8 count, then count × (field · value)
--       end    7 digest of the live orders that were put back
-- REPLY {0, n}   done
-- While a bucket is being built every other script answers CHANGED.
-- A new bucket is begin and end with nothing between, then open.
-- begin answers TAKEN where another's newer epoch stands, and CHANGED where this one does.
-- TWICE chunks write the same fields again and count once; begin wipes again; end has ended.
local step = ARGV[6]
if step == 'begin' then
  -- A stray hand may have put something else under the name of META; nobody owns that.
  local is_hash, m = pcall(call, 'HMGET', META, 'epoch', 'n', 'building', 'ledger')
  if is_hash and m[1] then
    if taken(m[1], m[4]) then
      return {3, m[1], tonumber(m[2])}
    end
    local there, new = tonumber(m[1]), tonumber(ARGV[1])
    local repeated = there == new and m[3] == '1' and tonumber(m[2]) == 1
    if there >= new and not repeated then -- CHECK:epoch
      return {2, m[1], tonumber(m[2])}
    end
  end
  call('UNLINK', META, STOCK, ORDERS, USERS, MOVES, TAIL)
  for i = 2, #KEYS do
    -- 0: the name is a buyer's too.
    call('HSET', KEYS[i], '_', '0')
  end
  call('HSET', META, 'epoch', ARGV[1], 'building', '1', 'starts', ARGV[7], 'ends', ARGV[8],
    'sale', ARGV[9] or '')
  leave(0, 0)
  return {0, N}
end
if step == 'end' then
  local m = call('HMGET', META, 'epoch', 'n', 'building', 'ledger')
  if m[1] == ARGV[1] and m[4] == ARGV[4] and tonumber(m[2]) == N and m[3] == '0' then
    return {0, N}
  end
end
local stop, meta = enter('1')
if stop then
  return stop
end
if step == 'end' then
  call('HSET', META, 'building', '0')
  leave(ARGV[7], meta[7])
  return {0, N}
end
local key = ({live = ORDERS, closed = ORDERS, user = USERS, stock = STOCK, move = MOVES, tail = TAIL})[ARGV[7]]
local live = tonumber(meta[7])
if ARGV[7] == 'live' and tonumber(meta[2]) ~= N then
  live = live + ARGV[8]
end
local put = {}
for i = 1, 2 * tonumber(ARGV[8]) do
  put[i] = ARGV[8 + i]
end
hset(key, put)
leave(meta[4], live)
return {0, N}
