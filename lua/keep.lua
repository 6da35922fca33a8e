-- keep: the second copy of what the ledger has, no hold carries, and the order store may
-- not have yet: closed orders, payments, entitlements.
--
-- ARGV  6 count, then count × (field · value), then the fields that the store has by now
--       field: <kind>:<id>   value: <version>:<the whole of it>
-- REPLY {0, n, left}   left: how many stand here now
-- TWICE the same fields again; what is gone is gone.
local stop, meta = enter('0')
if stop then
  return stop
end
local put, at = {}, 6 + 2 * tonumber(ARGV[6])
for i = 7, at do
  put[i - 6] = ARGV[i]
end
hset(TAIL, put)
for from = at + 1, #ARGV, 4000 do
  call('HDEL', TAIL, unpack(ARGV, from, math.min(#ARGV, from + 3999)))
end
leave(meta[4], meta[7])
return {0, N, call('HLEN', TAIL) - 1}
