"""Says what each call was answered, and fails where none of them got past the door.

    reached.py DOCUMENT SEEN

DOCUMENT is the API's own; SEEN has a line for each answer: the call's operationId and the status.
"""

import collections
import json
import sys

# Answers that say that the handler itself was reached, beside a success.
ALSO = {
    "cancelOrder": [423],
    "paymentCallback": [400],
    "playCheck": [401, 403],
    "downloadCheck": [401, 403],
    "refundOrder": [423],
    "acceptPayment": [423],
}
# A fresh engine has no dead letter, and Schemathesis leaves out the call for the document itself.
NEVER = {"replayDeadLetter", "openApi"}


def main():
    document, seen = sys.argv[1:]
    with open(document, encoding="utf-8") as file:
        paths = json.load(file)["paths"]
    answers = collections.defaultdict(collections.Counter)
    with open(seen, encoding="ascii") as file:
        for line in file:
            name, status = line.split()
            answers[name][int(status)] += 1
    missing = []
    for operations in paths.values():
        for name in (operation["operationId"] for operation in operations.values()):
            got = answers[name]
            print(f"{name:20}", *(f"{status}: {n}" for status, n in sorted(got.items())))
            wanted = [] if name in NEVER else ALSO.get(name, [])
            if name not in NEVER and not any(200 <= status < 300 for status in got):
                missing.append(f"{name} never succeeded")
            missing += [f"{name} was never answered {s}" for s in wanted if s not in got]
    for what in missing:
        print(f"NOT REACHED: {what}", file=sys.stderr)
    sys.exit(1 if missing else 0)


main()
