"""Stripe's objects as the fake keeps them: built from Stripe's own published examples, with our values put in.

What an example has and nobody set is blanked to the emptiness that Stripe sends, so that no test leans on a
value that an example happens to carry.
"""

from __future__ import annotations

import copy
import json
import secrets
import time
from pathlib import Path
from typing import Any

EXAMPLES: dict[str, dict[str, Any]] = json.loads(
    (Path(__file__).resolve().parents[1] / "data" / "stripe-objects.json").read_text()
)["resources"]

PREFIX = {
    "checkout.session": "cs_test_",
    "payment_intent": "pi_",
    "charge": "ch_",
    "refund": "re_",
    "dispute": "dp_",
    "account": "acct_",
    "transfer": "tr_",
    "transfer_reversal": "trr_",
    "payout": "po_",
    "event": "evt_",
    "customer": "cus_",
    "payment_method": "pm_",
    "radar.early_fraud_warning": "issfr_",
}

# Members of the examples that would say something which did not happen.
_BLANK: dict[str, dict[str, Any]] = {
    "checkout.session": {"payment_intent": None, "after_expiration": None, "customer_details": None},
    "payment_intent": {
        "canceled_at": None,
        "last_payment_error": None,
        "next_action": None,
        "processing": None,
        "shipping": None,
        "transfer_data": None,
    },
    "charge": {"shipping": None, "balance_transaction": None},
    "customer": {"discount": None, "shipping": None},
    "payout": {"automatic": False},
}


def new_id(kind: str) -> str:
    """An id such as ``pi_3f…``."""
    return PREFIX[kind] + secrets.token_hex(12)


def make(kind: str, **values: Any) -> dict[str, Any]:
    """An object of Stripe's: the published example, blanked, with ``values``; made now, with an id of its own."""
    made = copy.deepcopy(EXAMPLES[kind])
    made.update(copy.deepcopy(_BLANK.get(kind, {})))
    if kind in PREFIX:
        made["id"] = new_id(kind)
    if "created" in made:
        made["created"] = int(time.time())
    unknown = set(values) - set(made) - MORE.get(kind, set())
    if unknown:
        raise ValueError(f"{kind} has no {sorted(unknown)}")
    made.update(values)
    return made


MORE: dict[str, set[str]] = {
    # Optional in Stripe's schema, and not in the published example.
    "refund": {"failure_reason"},
    "radar.early_fraud_warning": {"payment_intent"},
    "event": {"account"},
}


def problems(made: dict[str, Any]) -> list[str]:
    """Where an object of ours is not of the published example's shape: keys and JSON types, all the way down.

    Null and a value may stand for one another: Stripe's examples show either. Maps that hold the user's own
    keys (``metadata``) are maps, whatever is in them.
    """
    kind = made["object"]
    return list(_differences(EXAMPLES[kind], made, kind, MORE.get(kind, set())))


def _differences(example: Any, made: Any, path: str, more: set[str] = frozenset()) -> Any:  # type: ignore[assignment]
    if example is None or made is None:
        return
    if isinstance(example, dict) and isinstance(made, str) and "id" in example:
        return  # an expandable member, by its id
    if isinstance(example, str) and isinstance(made, dict) and path.endswith(("charge", "payment_intent")):
        yield from (f"{path}: {problem}" for problem in problems(made))
        return
    if _json_type(example) != _json_type(made):
        yield f"{path}: {_json_type(made)} for {_json_type(example)}"
    elif isinstance(example, dict) and not path.endswith(("metadata", "data.object", "evidence")):
        if missing := sorted(set(example) - set(made)):
            yield f"{path} lacks {missing}"
        if path.count(".") <= 2 and (added := sorted(set(made) - set(example) - more)) and example:
            yield f"{path} has {added}"
        for name in sorted(set(example) & set(made)):
            yield from _differences(example[name], made[name], f"{path}.{name}")


def _json_type(value: Any) -> str:
    return "number" if isinstance(value, int | float) and not isinstance(value, bool) else type(value).__name__
