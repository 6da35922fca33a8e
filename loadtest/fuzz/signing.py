"""Signs callbacks as Standard Webhooks (https://www.standardwebhooks.com) say."""

import base64
import hashlib
import hmac
import time


def secret_of(path):
    """The key of the file's first line, which is `whsec_` and base64."""
    with open(path, encoding="ascii") as file:
        line = file.readline().strip()
    return base64.b64decode(line.removeprefix("whsec_"))


def signed(secret, body, message):
    """Headers for these bytes, now; `_` stands for `-` in their names."""
    at = str(int(time.time()))
    text = b".".join([message.encode(), at.encode(), body])
    digest = hmac.new(secret, text, hashlib.sha256).digest()
    return {
        "webhook_id": message,
        "webhook_timestamp": at,
        "webhook_signature": "v1," + base64.b64encode(digest).decode(),
    }
