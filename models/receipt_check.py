"""Checking a receipt, or a creator's whole export, offline: with the file, the public keys and this module.

Needs no network, no database and no settings: ``python -m models.receipt_check FILE --keys KEYS``. The bill
is recomputed by the same end table that made it (``models.settlement``).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from models import canonical, consents, settlement
from models.canonical import Json, NotCanonical
from models.receipt_keys import JwkSet, public_keys
from models.receipt_seal import seal_problems

VALID, WRONG, UNCHECKED = 0, 1, 2
"""Exit codes: everything holds · something does not · it could not be checked."""
KEYS_FILE = "greenroom-receipt-keys.json"
"""As the site publishes it under /.well-known/."""
Document = Mapping[str, Json]
Keys = Mapping[str, Ed25519PublicKey]


class CannotCheck(Exception):
    """There is nothing to say about the file: it cannot be read, or the keys cannot."""


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What came out: ``problems`` are sentences, empty when it holds; ``facts`` what was checked."""

    what: str
    problems: tuple[str, ...]
    facts: tuple[str, ...]

    @property
    def exit_code(self) -> int:
        """``VALID`` or ``WRONG``."""
        return WRONG if self.problems else VALID


class Figures(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The figures of a receipt that its bill follows from; times in milliseconds, amounts in tokens."""

    session_id: str
    creator_id: str
    fan_id: str
    end_reason: str
    end_row: str
    live_at: str | None = None
    min_minutes: int
    minute_ms: int
    paid_ms: int
    delivered_ms: int
    billed_minutes: int
    rate_per_minute: int
    commission_percent: int
    included_minutes: int = 0
    included_used: int = 0
    unlock_price: int = 0
    unlock_earned: int = 0
    total_held: int
    earnings: int
    commission: int
    refunded: int


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One side of a transfer."""

    account: str
    amount: int
    owner: str = ""


class Movement(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One transfer."""

    transfer_id: str
    kind: str
    entries: tuple[Entry, ...]

    def on(self, account: str, owner: str = "") -> int:
        """What it did to an account, in tokens."""
        return sum(each.amount for each in self.entries if (each.account, each.owner) == (account, owner))


def read_keys(raw: bytes) -> Keys:
    """The keys of a JWK Set. Raises CannotCheck."""
    try:
        return public_keys(msgspec.json.decode(raw, type=JwkSet).keys)
    except msgspec.DecodeError as error:
        raise CannotCheck(f"the keys are no JWK Set: {error}") from error


def check(raw: bytes, keys: Keys) -> Verdict:
    """The verdict about one document, or about an export (JSON lines that end with the chain's head)."""
    try:
        document = canonical.decode(raw)
    except NotCanonical as error:
        lines = [line for line in raw.split(b"\n") if line.strip()]
        if lines and consents.is_record(lines[0]):
            return check_consents(lines, keys)
        if len(lines) < 2:
            return Verdict(what="document", problems=(f"it cannot be read: {error}",), facts=())
        return check_export(raw, keys)
    if isinstance(document, Mapping) and document.get("document") == "head":
        return check_export(raw, keys)
    if consents.is_record(raw):
        return check_consents([raw], keys)
    return check_document(document, keys)


def check_consents(lines: list[bytes], keys: Keys) -> Verdict:
    """The verdict about what both sides signed before a private stream was recorded, oldest first."""
    problems = [f"record {number}: {said}" for number, line in enumerate(lines, 1)
                for said in consents.problems(line, keys)]  # fmt: skip
    if problems:
        return Verdict(what="consents", problems=tuple(problems), facts=())
    records = [document for line in lines if isinstance(document := canonical.decode(line), Mapping)]
    previous = [None, *(_signature(record, "hash") for record in records)]
    links = [(_signature(record, "number"), _signature(record, "previousHash")) for record in records]
    if (
        links != list(enumerate(previous[: len(records)], 1))
        or len({each.get("recordingId") for each in records}) > 1
    ):
        problems.append("these are not all records of one recording, from the first")
    facts = tuple(f"{each.get('at')} {each.get('side')}: consent {each.get('act')}" for each in records)
    return Verdict(what=f"consents to {records[0].get('recordingId')}", problems=tuple(problems), facts=facts)


def check_document(document: Json, keys: Keys) -> Verdict:
    """The verdict about one receipt or amendment, by itself."""
    if not isinstance(document, Mapping):
        return Verdict(what="document", problems=("it is no receipt",), facts=())
    amendment = document.get("document") == "amendment"
    found = seal_problems(document, keys)
    facts = [] if found else [f"signed with the key {_signature(document, 'keyId')}"]
    problems, more = _amendment(document) if amendment else _receipt(document)
    kind = "amendment" if amendment else "receipt"
    what = f"{kind} {_signature(document, 'number')} of {document.get('creatorId')}"
    return Verdict(what=what, problems=(*found, *problems), facts=(*facts, *more))


def check_export(raw: bytes, keys: Keys) -> Verdict:
    """The verdict about a creator's export: each document, and the chain from its first link to its head."""
    problems: list[str] = []
    documents: list[Document] = []
    if not raw.endswith(b"\n"):
        problems.append("the last line is not complete")
    for index, line in enumerate(raw.removesuffix(b"\n").split(b"\n"), 1):
        try:
            document = canonical.decode(line)
        except NotCanonical as error:
            problems.append(f"line {index}: it cannot be read: {error}")
            continue
        if not isinstance(document, Mapping):
            problems.append(f"line {index}: it is no receipt")
        elif canonical.encode(document) != line:
            problems.append(f"line {index}: it is not in canonical form, so somebody has changed it")
        else:
            documents.append(document)
    heads = [each for each in documents if each.get("document") == "head"]
    links = [each for each in documents if each.get("document") != "head"]
    for link in links:
        verdict = check_document(link, keys)
        problems += [f"{verdict.what}: {problem}" for problem in verdict.problems]
    problems += _chain(links)
    if len(heads) == 1 and documents[-1] is heads[0]:
        problems += _head(heads[0], links, keys)
    else:
        problems.append("it has no head as its last line, so documents may be missing at its end")
    problems += _refunds(links)
    facts = (f"{len(links)} documents in one chain, none missing",) if not problems else ()
    creator = heads[0].get("creatorId") if heads else "a creator"
    return Verdict(what=f"export of {creator}", problems=tuple(problems), facts=facts)


def _chain(links: list[Document]) -> list[str]:
    problems, previous_hash = [], None
    creators = {str(link.get("creatorId")) for link in links}
    if len(creators) > 1:
        problems.append("it has documents of several creators")
    for number, link in enumerate(links, 1):
        if _signature(link, "number") != number:
            problems.append(f"number {number} is missing: {_signature(link, 'number')} is in its place")
            break
        if _signature(link, "previousHash") != previous_hash:
            problems.append(f"number {number} does not follow the document before it")
        previous_hash = _signature(link, "hash")
    return problems


def _head(head: Document, links: list[Document], keys: Keys) -> list[str]:
    problems = [f"the head: {problem}" for problem in seal_problems(head, keys)]
    if head.get("count") != len(links):
        problems.append(f"the head counts {head.get('count')} documents, here are {len(links)}")
    if head.get("lastHash") != (_signature(links[-1], "hash") if links else None):
        problems.append("the head is that of another chain")
    if links and head.get("creatorId") != links[0].get("creatorId"):
        problems.append("the head is that of another creator")
    return problems


def _refunds(links: list[Document]) -> list[str]:
    """No session gives back more than it was charged, over all its amendments; none is amended unknown."""
    left: dict[str, int] = {}
    problems = []
    for link in links:
        session = str(link.get("sessionId"))
        if link.get("document") != "amendment":
            left[session] = _whole(link, "earnings") + _whole(link, "commission")
        elif session not in left:
            problems.append(f"{link.get('amendmentId')} is about a session that has no receipt before it")
        else:
            left[session] -= _whole(link, "tokens")
            if left[session] < 0:
                problems.append(f"{session} gave back more than was paid")
    return problems


def _receipt(document: Document) -> tuple[list[str], list[str]]:
    """What is wrong with a receipt's arithmetic, and what was found right."""
    try:
        figures = msgspec.convert(document, Figures)
        transfers = msgspec.convert(document.get("transfers"), tuple[Movement, ...])
    except msgspec.ValidationError as error:
        return [f"it is no receipt: {error}"], []
    problems = [*_totals(figures), *_transfers(figures, transfers), *_bill(figures)]
    if problems:
        return problems, []
    paid = figures.earnings + figures.commission
    earned = f"{figures.earnings:,} earned + {figures.commission:,} commission"
    return [], [
        f"{figures.total_held:,} held = {earned} + {figures.refunded:,} back",
        f"{len(transfers)} transfers, each sums to zero",
        f"{paid:,} tokens for {figures.billed_minutes} minutes is what the row {figures.end_row} says",
    ]


def _totals(figures: Figures) -> list[str]:
    parts = (figures.total_held, figures.earnings, figures.commission, figures.refunded)
    if min(parts) < 0:
        return ["an amount is below zero"]
    if figures.total_held != figures.earnings + figures.commission + figures.refunded:
        return ["held is not earned + commission + back"]
    return []


def _transfers(figures: Figures, transfers: tuple[Movement, ...]) -> list[str]:
    problems = [
        f"transfer {each.transfer_id} does not sum to zero"
        for each in transfers
        if sum(entry.amount for entry in each.entries)
    ]
    settled = [each for each in transfers if each.kind == "settle"]
    if len(settled) != (1 if figures.total_held else len(settled)):
        problems.append(f"it was settled {len(settled)} times")
    if {each.kind for each in transfers} - {"hold", "release", "settle"}:
        problems.append("it has a transfer that no receipt has")
    said = (figures.total_held, figures.earnings, figures.commission, figures.refunded)
    moved = (
        -sum(each.on("held", figures.fan_id) for each in settled),
        sum(each.on("earnings_pending", figures.creator_id) for each in settled),
        sum(each.on("fees") for each in settled),
        sum(each.on("wallet", figures.fan_id) for each in settled),
    )
    if said != moved:
        problems.append("its settlement moved other amounts than it says")
    if sum(each.on("held", figures.fan_id) for each in transfers):
        problems.append("what was held and what was settled differ")
    return problems


def _bill(figures: Figures) -> list[str]:
    row = settlement.ROWS.get(figures.end_row)
    if row is None:
        return [f"there is no row {figures.end_row} in the end table"]
    if row.reason != figures.end_reason:
        return [f"the row {row.key} ends by {row.reason}, not by {figures.end_reason}"]
    charged = figures.earnings + figures.commission
    parts = ("billed_minutes", "included_used", "unlock_earned", "earnings", "commission", "refunded")
    # How many tokens were bad is not on a receipt: any number that explains the bill is taken.
    bad = (0, figures.total_held - charged) if row is settlement.PAYMENT_BAD else (0,)
    try:
        bills = [_bill_of(figures, row, tokens) for tokens in bad]
    except (ValueError, ZeroDivisionError) as error:
        return [f"no bill can be made from it: {error}"]
    if any(all(getattr(each, part) == getattr(figures, part) for part in parts) for each in bills):
        return []
    due = f"{bills[0].billed_minutes} minutes and {bills[0].charged} tokens"
    return [f"by the row {row.key} it comes to {due}, not to {figures.billed_minutes} and {charged}"]


def _bill_of(figures: Figures, row: settlement.Row, bad_tokens: int) -> settlement.Bill:
    return settlement.bill(
        row,
        total_held=figures.total_held,
        min_minutes=figures.min_minutes,
        paid_ms=figures.paid_ms,
        delivered_ms=figures.delivered_ms,
        rate=figures.rate_per_minute,
        commission_percent=figures.commission_percent,
        minute_ms=figures.minute_ms,
        included_minutes=figures.included_minutes,
        unlock_price=figures.unlock_price,
        live=figures.live_at is not None or figures.delivered_ms > 0,
        bad_tokens=bad_tokens,
    )


def _amendment(document: Document) -> tuple[list[str], list[str]]:
    tokens, fan_id = document.get("tokens"), str(document.get("fanId"))
    if not isinstance(tokens, int) or tokens < 0:
        return ["it does not say how much was given back"], []
    if tokens == 0:
        return ([], ["nothing was given back"]) if "transfer" not in document else (["it moved tokens"], [])
    try:
        transfer = msgspec.convert(document.get("transfer"), Movement)
    except msgspec.ValidationError as error:
        return [f"it is no amendment: {error}"], []
    if sum(entry.amount for entry in transfer.entries):
        return [f"transfer {transfer.transfer_id} does not sum to zero"], []
    if transfer.on("wallet", fan_id) != tokens:
        return ["its transfer moved another amount than it says"], []
    return [], [f"{tokens:,} tokens were given back"]


def _signature(document: Document, name: str) -> Json:
    signature = document.get("signature")
    return signature.get(name) if isinstance(signature, Mapping) else None


def _whole(document: Document, name: str) -> int:
    value = document.get(name)
    return value if isinstance(value, int) else 0


def run(file: Path, keys: Path | None = None) -> tuple[int, list[str]]:
    """Check a file against a file of keys (None: KEYS_FILE beside it): the exit code, and what to say."""
    try:
        raw = file.read_bytes()
        verdict = check(raw, read_keys((keys or file.with_name(KEYS_FILE)).read_bytes()))
    except (OSError, CannotCheck) as error:
        return UNCHECKED, [f"NOT CHECKED: {error}"]
    said = [f"  ok    {fact}" for fact in verdict.facts] + [f"  WRONG {problem}" for problem in verdict.problems]
    return verdict.exit_code, [f"{'NOT VALID' if verdict.problems else 'VALID'}: {verdict.what}", *said]


def main() -> int:
    """``python -m models.receipt_check FILE --keys KEYS``."""
    parser = argparse.ArgumentParser(description="Check a receipt or an export of receipts, offline.")
    parser.add_argument("file", type=Path)
    parser.add_argument("--keys", type=Path, help=f"the site's public keys; left out: {KEYS_FILE} beside FILE")
    chosen = parser.parse_args()
    code, said = run(chosen.file, chosen.keys)
    print("\n".join(said))
    return code


if __name__ == "__main__":
    sys.exit(main())
