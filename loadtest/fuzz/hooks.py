"""Lets Schemathesis past the door: two in three of its calls are about something that is there.

What is there comes from seed.py (FUZZ_SEEDED). Only what names a thing is put in its place (an
id, a token, a signature); everything else stays as it was made up, so good and bad requests
reach the handlers alike. Each answer is noted in FUZZ_SEEN for reached.py.
"""

import json
import os
import random

import schemathesis
from signing import secret_of, signed

with open(os.environ["FUZZ_SEEDED"], encoding="ascii") as file:
    SEEDED = json.load(file)
SECRET = secret_of(os.environ["FUZZ_SECRET_FILE"])
DICE = random.Random(int(os.environ["FUZZ_DICE"]))
SEEN = open(os.environ["FUZZ_SEEN"], "a", encoding="ascii", buffering=1)


def an_order():
    return DICE.choice(SEEDED["orders"])


def body_with(case, **fields):
    """A body that is no object stays what it is: it is one of the bad ones."""
    if isinstance(case.body, dict):
        case.body = case.body | fields


def path_with(**ids):
    def put(case):
        case.path_parameters = (case.path_parameters or {}) | {
            name: value() for name, value in ids.items()
        }

    return put


def header_with(case, **headers):
    for name, value in headers.items():
        case.headers[name.replace("_", "-")] = value


def query_with(case, **values):
    case.query = (case.query or {}) | values


def create_order(case):
    sku = DICE.choice(["film", "poster"])
    body_with(case, saleId=SEEDED["sale"], items=[{"skuId": sku, "quantity": DICE.randint(1, 2)}])


def prepay(case):
    path_with(id=lambda: an_order()["order"])(case)
    if DICE.random() < 0.7:
        body_with(case, channel="card")


def callback(case):
    """Signed as it stands, whatever it says; half of them say what is right."""
    if not isinstance(case.body, (dict, list, str, int, float)):
        return
    order = an_order()
    body_with(case, orderId=order["order"])
    if DICE.random() < 0.5:
        body_with(
            case,
            amountCent=order["amount"],
            currency="EUR",
            channel="card",
            channelTxnNo=f"fuzz-{DICE.randrange(50)}",
        )
    case.body = json.dumps(case.body).encode()
    header_with(case, **signed(SECRET, case.body, f"fuzz-{DICE.randrange(1 << 40)}"))


def license_(case):
    body_with(case, workId=SEEDED["work"])


def device(case):
    path_with(work=lambda: SEEDED["work"])(case)
    header_with(case, X_Device_Id=SEEDED["device"])


def check(token):
    def put(case):
        other = DICE.random() < 0.3
        query_with(
            case,
            token=SEEDED[token],
            device="another" if other else SEEDED["device"],
            work=SEEDED["work"],
        )

    return put


def heartbeat(case):
    body_with(case, playToken=SEEDED["playToken"])


ORDER = path_with(id=lambda: an_order()["order"])
REVIEW = path_with(id=lambda: DICE.choice(SEEDED["reviews"]))
SALE = path_with(sale=lambda: SEEDED["sale"])
PAGE = path_with(token=lambda: DICE.choice(SEEDED["pages"]))
REAL = {
    "createOrder": create_order,
    "previewOrder": create_order,
    "cancelOrder": ORDER,
    "prepay": prepay,
    "paymentStatus": ORDER,
    "paymentCallback": callback,
    "mockPage": PAGE,
    "mockPress": PAGE,
    "license": license_,
    "playAuth": device,
    "playCheck": check("playToken"),
    "heartbeat": heartbeat,
    "downloadToken": device,
    "downloadCheck": check("downloadToken"),
    # Of the one document by buyers, of the other by operators.
    "showOrder": ORDER,
    "showSale": SALE,
    "listOrders": SALE,
    "pauseSale": SALE,
    "resumeSale": SALE,
    "refundOrder": ORDER,
    "acceptPayment": REVIEW,
    "rejectPayment": REVIEW,
}


def name_of(case):
    return case.operation.definition.raw["operationId"]


@schemathesis.hook
def before_call(context, case, kwargs):
    real = REAL.get(name_of(case))
    if real is not None and DICE.random() < 2 / 3:
        real(case)


@schemathesis.hook
def after_call(context, case, response):
    SEEN.write(f"{name_of(case)} {response.status_code}\n")
