-- orders.lua: POST /v1/orders in nginx, with one EVALSHA an order.
--
-- Checks what the engine checks before it asks for stock (buyer, key, sale, SKU,
-- quantity) and answers with the same statuses. What it does not do: nothing is
-- on a disk when it says 201, and a key used with another body is not noticed.
local redis = require "nginx.redis"
local cjson = require "cjson"

local M = {}

local PAY_WINDOW_MS = 900000
local SALE = { id = "bench", units_per_user = 1, skus = { unit = { price_cent = 100, currency = "EUR" } } }

local script, sha, redis_port
local counter = 0

function M.init(path, port)
    local file = assert(io.open(path, "rb"))
    script = file:read("*a")
    file:close()
    sha = ngx.sha1_bin(script):gsub(".", function(c) return string.format("%02x", c:byte()) end)
    redis_port = port
end

local function say(status, body)
    ngx.status = status
    ngx.header.content_type = status < 300 and "application/json" or "application/problem+json"
    local text = cjson.encode(body)
    ngx.header.content_length = #text
    ngx.print(text)
end

local function refuse(status, code)
    say(status, { status = status, code = code })
end

local function reserve(red, ...)
    local reply, err = red:evalsha(sha, ...)
    if not reply and err and err:find("NOSCRIPT", 1, true) then
        reply, err = red:eval(script, ...)
    end
    return reply, err
end

local function as_time(ms)
    return os.date("!%Y-%m-%dT%H:%M:%S", math.floor(ms / 1000)) .. string.format(".%03dZ", ms % 1000)
end

function M.buy()
    if ngx.req.get_method() ~= "POST" then
        return refuse(405, "METHOD_NOT_ALLOWED")
    end
    ngx.req.read_body()
    local user, key = ngx.var.http_x_user_id, ngx.var.http_idempotency_key
    if not user then
        return refuse(401, "UNAUTHENTICATED")
    end
    if not key or #key > 64 then
        return refuse(400, "IDEMPOTENCY_KEY_INVALID")
    end
    local ok, ask = pcall(cjson.decode, ngx.req.get_body_data() or "")
    if not ok or type(ask) ~= "table" or type(ask.items) ~= "table" or type(ask.items[1]) ~= "table" then
        return refuse(400, "BODY_INVALID")
    end
    local item = ask.items[1]
    local sku = ask.saleId == SALE.id and SALE.skus[item.skuId]
    if not sku then
        return refuse(404, "NOT_FOUND")
    end
    local quantity = item.quantity
    if type(quantity) ~= "number" or quantity < 1 or quantity % 1 ~= 0 then
        return refuse(400, "BODY_INVALID")
    end

    counter = counter + 1
    local now_ms = math.floor(ngx.now() * 1000)
    local deadline_ms = now_ms + PAY_WINDOW_MS
    local id = string.format("%x-%x-%x", now_ms, ngx.worker.pid(), counter)
    local red = redis:new()
    red:set_timeout(5000)
    local connected, err = red:connect("127.0.0.1", redis_port)
    if not connected then
        ngx.log(ngx.ERR, "connect to Redis: ", err)
        return refuse(503, "OUTCOME_UNKNOWN")
    end
    local reply
    reply, err = reserve(red, 4, "stock:bench", "requests:bench", "buyers:bench", "order:" .. id,
        user, key, item.skuId, quantity, SALE.units_per_user, id, sku.price_cent, now_ms, deadline_ms)
    if not reply then
        ngx.log(ngx.ERR, "reserve: ", err)
        return refuse(503, "OUTCOME_UNKNOWN")
    end
    red:set_keepalive(60000, 512)

    local code = reply[1]
    if code == 1 then
        return refuse(422, "STOCK_NOT_ENOUGH")
    elseif code == 2 then
        return refuse(422, "LIMIT_EXCEEDED")
    end
    say(code == 0 and 201 or 200, {
        orderId = reply[2],
        saleId = SALE.id,
        status = "PENDING_PAYMENT",
        items = { { skuId = item.skuId, quantity = quantity, priceCent = sku.price_cent } },
        payAmountCent = sku.price_cent * quantity,
        currency = sku.currency,
        createdAt = as_time(now_ms),
        payDeadlineAt = as_time(deadline_ms),
    })
end

return M
