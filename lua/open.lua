-- open: gives units to the bucket, or takes free ones away, once per allotment id.
--
-- ARGV  6 allotment id  7 n_lines, then n_lines × (sku · units, negative to withdraw)
-- REPLY {0, n, 0}        done, now or before
--       {0, n, 1, sku, available}   not that many are free; nothing was done
-- TWICE the id is remembered; nothing moves.
local stop, meta = enter('0')
if stop then
  return stop
end
local id, n_lines = 'a:' .. ARGV[6], tonumber(ARGV[7])
if call('HMGET', MOVES, id)[1] then
  leave(meta[4])
  return {0, N, 0}
end
local fields = {}
for line = 1, n_lines do
  local sku = ARGV[6 + 2 * line]
  for i, kind in ipairs({'o:', 'a:', 'h:', 's:', 'w:'}) do
    fields[5 * (line - 1) + i] = kind .. sku
  end
end
local stock = hmget(STOCK, fields)
local put = {}
for line = 1, n_lines do
  local sku, units = ARGV[6 + 2 * line], tonumber(ARGV[7 + 2 * line])
  local base = 5 * (line - 1)
  local available = tonumber(stock[base + 2] or 0)
  if available + units < 0 then
    leave(meta[4])
    return {0, N, 1, sku, available}
  end
  for i = 1, 5 do
    local value = tonumber(stock[base + i] or 0)
    if i <= 2 then
      value = value + units
    end
    put[#put + 1] = fields[base + i]
    put[#put + 1] = value
  end
end
hset(STOCK, put)
call('HSET', MOVES, id, '1')
leave(meta[4])
return {0, N, 0}
