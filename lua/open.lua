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
  leave(meta[4], meta[7])
  return {0, N, 0}
end
local fields, at = {}, {}
for line = 1, n_lines do
  local sku = ARGV[6 + 2 * line]
  if not at[sku] then
    at[sku] = #fields
    for _, kind in ipairs({'o:', 'a:', 'h:', 's:', 'w:'}) do
      fields[#fields + 1] = kind .. sku
    end
  end
end
local stock = hmget(STOCK, fields)
for i = 1, #stock do
  stock[i] = tonumber(stock[i] or 0)
end
for line = 1, n_lines do
  local sku, units = ARGV[6 + 2 * line], tonumber(ARGV[7 + 2 * line])
  local opened, available = at[sku] + 1, at[sku] + 2
  if stock[available] + units < 0 then
    leave(meta[4], meta[7])
    return {0, N, 1, sku, stock[available]}
  end
  stock[opened], stock[available] = stock[opened] + units, stock[available] + units
end
local put = {}
for i = 1, #fields do
  put[2 * i - 1], put[2 * i] = fields[i], stock[i]
end
hset(STOCK, put)
call('HSET', MOVES, id, '1')
leave(meta[4], meta[7])
return {0, N, 0}
