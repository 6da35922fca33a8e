-- move: one side of a transfer between buckets, once per transfer id and side.
--
-- ARGV  6 transfer id  7 side (debit or credit)  8 sku  9 units
-- REPLY {0, n, 0}              done, now or before
--       {0, n, 1, available}   fewer are free; nothing was done (debit only)
-- TWICE the id and side are remembered; nothing moves.
local stop, meta = enter('0')
if stop then
  return stop
end
local id, sku, units = 't:' .. ARGV[7] .. ':' .. ARGV[6], ARGV[8], tonumber(ARGV[9])
if call('HMGET', MOVES, id)[1] then
  leave(meta[4], meta[7])
  return {0, N, 0}
end
local fields = {'o:' .. sku, 'a:' .. sku, 'h:' .. sku, 's:' .. sku, 'w:' .. sku}
local stock = call('HMGET', STOCK, unpack(fields))
if ARGV[7] == 'debit' then
  local available = tonumber(stock[2] or 0)
  if available < units then
    leave(meta[4], meta[7])
    return {0, N, 1, available}
  end
  units = -units
end
local put = {}
for i = 1, 5 do
  local value = tonumber(stock[i] or 0)
  if i <= 2 then
    value = value + units
  end
  put[#put + 1] = fields[i]
  put[#put + 1] = value
end
hset(STOCK, put)
call('HSET', MOVES, id, '1')
leave(meta[4], meta[7])
return {0, N, 0}
