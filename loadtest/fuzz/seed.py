"""Puts into a fresh engine what the fuzz run needs to get past the door.

    seed.py PUBLIC ADMIN ADMIN_TOKEN_FILE PAYMENT_SECRET_FILE

Orders in every state, payments, one of them for a person to decide, a licence and tokens, all
of the buyer `fuzz`. What it made is printed as JSON; hooks.py reads that.
"""

import json
import sys
import urllib.error
import urllib.request

from signing import secret_of, signed

SALE = "fuzz"
USER = "fuzz"
WORK = "premiere"
DEVICE = "tv"
PRICE = {"film": 900, "poster": 1200}


class Api:
    """One listener of the engine. Any answer but a 2xx ends the run: the seed is no test."""

    def __init__(self, url, headers):
        self.url, self.headers = url, headers
        # Whatever proxy the caller has is not for this machine's own addresses.
        self.open = urllib.request.build_opener(urllib.request.ProxyHandler({})).open

    def ask(self, method, path, body=None, **headers):
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        more = {name.replace("_", "-"): value for name, value in headers.items()}
        if data is not None:
            more["content-type"] = "application/json"
        request = urllib.request.Request(
            self.url + path, data=data, method=method, headers=self.headers | more
        )
        try:
            with self.open(request, timeout=30) as answer:
                return json.loads(answer.read())
        except urllib.error.HTTPError as error:
            sys.exit(f"seed: {method} {path}: {error.code} {error.read().decode()}")


def main():
    public_url, admin_url, token_file, secret_file = sys.argv[1:]
    with open(token_file, encoding="ascii") as file:
        token = file.read().strip()
    secret = secret_of(secret_file)
    public = Api(public_url, {"x-user-id": USER})
    admin = Api(admin_url, {"authorization": f"Bearer {token}"})
    grant = {"workId": WORK, "validDays": 365, "devicesMax": 3, "whenFull": "kick_oldest"}
    skus = [
        {"id": sku, "name": sku, "priceCent": price, "currency": "EUR", "units": 5_000}
        for sku, price in PRICE.items()
    ]
    skus[0]["grant"] = grant
    admin.ask(
        "POST",
        "/admin/v1/sales",
        {
            "id": SALE,
            "name": "Fuzz",
            "startsAt": "2026-01-01T00:00:00Z",
            "endsAt": "2099-01-01T00:00:00Z",
            "unitsPerUser": 10_000,
            "ordersPerUserMax": 10_000,
            "payWindowSeconds": 3_600,
            "skus": skus,
        },
    )
    orders = []

    def buy(sku):
        body = {"saleId": SALE, "items": [{"skuId": sku, "quantity": 1}]}
        key = f"seed-{len(orders)}"
        order = public.ask("POST", "/v1/orders", body, idempotency_key=key)["orderId"]
        orders.append({"order": order, "amount": PRICE[sku]})
        return orders[-1]

    def pay(order, amount):
        told = {
            "channel": "card",
            "orderId": order["order"],
            "channelTxnNo": f"seed-{order['order']}",
            "status": "SUCCESS",
            "amountCent": amount,
            "currency": "EUR",
            "paidAt": "2026-01-01T00:00:00Z",
        }
        body = json.dumps(told).encode()
        headers = signed(secret, body, f"seed-{order['order']}")
        answer = public.ask("POST", "/v1/payments/callback", body, **headers)
        return answer["paymentId"]

    pending = [buy("poster") for _ in range(20)]
    for sku in ["film", "poster"]:
        for _ in range(15):
            order = buy(sku)
            pay(order, order["amount"])
    reviews = [pay(order, order["amount"] - 1) for order in [buy("poster") for _ in range(20)]]
    public.ask("POST", "/v1/licenses", {"workId": WORK, "deviceId": DEVICE})
    play = public.ask("GET", f"/v1/play/auth/{WORK}", x_device_id=DEVICE)
    download = public.ask("GET", f"/v1/download-tokens/{WORK}", x_device_id=DEVICE)
    pages = []
    for order in pending[:5]:
        path = f"/v1/payments/{order['order']}/prepay"
        session = public.ask("POST", path, {"channel": "card"})
        pages.append(session["payUrl"].rsplit("/", 1)[1])
    seeded = {
        "sale": SALE,
        "work": WORK,
        "device": DEVICE,
        "orders": orders,
        "reviews": reviews,
        "pages": pages,
        "playToken": play["playToken"],
        "downloadToken": download["downloadToken"],
    }
    print(json.dumps(seeded))


main()
