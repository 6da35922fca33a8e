-- audit: the bucket's counters at this place in its call order.
--
-- ARGV  6 n_skus, then n_skus × sku
-- REPLY {0, n, digest, n_live, n_moves, then per sku: o, a, h, s, w}
--       always o = a + h + s + w; digest is the sum of the marks of live orders modulo 2^40
-- Changes nothing but n.
local stop, meta = enter('0')
if stop then
  return stop
end
local fields, n_skus = {}, tonumber(ARGV[6])
for i = 1, n_skus do
  for k, kind in ipairs({'o:', 'a:', 'h:', 's:', 'w:'}) do
    fields[5 * (i - 1) + k] = kind .. ARGV[6 + i]
  end
end
local stock = hmget(STOCK, fields)
-- A key that is gone took what it knew along. One that was written to since is there
-- again, but without the field that only a rebuild puts there.
for i = 2, #KEYS do
  if not call('HMGET', KEYS[i], '_')[1] then
    return {2, meta[1], tonumber(meta[2])}
  end
end
-- Without that field.
local reply = {0, N, tonumber(meta[4]), tonumber(meta[7]), call('HLEN', MOVES) - 1}
for i = 1, 5 * n_skus do
  reply[5 + i] = tonumber(stock[i] or 0)
end
leave(meta[4], meta[7])
return reply
