"""The audit: whether the books are right, by arithmetic over all of them. Anyone may run it on a live system.

Each check is one query that finds what is wrong and one sentence about it; it reads one snapshot and
changes nothing. Queries are plain SQL so that an auditor can run them without this program.
"""

from __future__ import annotations

import msgspec
from sqlalchemy import text
from sqlalchemy.orm import Session

MOST_PER_CHECK = 20
"""A broken rule is told by its first cases; a thousand more say nothing new."""


class AuditReport(msgspec.Struct, frozen=True, kw_only=True):
    """What was found; ``problems`` empty means that everything adds up."""

    ok: bool
    problems: tuple[str, ...]
    accounts: int
    transfers: int


# What is found by the query, in words; the query's columns fill the braces.
_BOOKS: tuple[tuple[str, str], ...] = (
    (
        "transfer {} has entries that sum to {}, not to zero",
        (
            "SELECT t.id, COALESCE(SUM(e.amount), 0) FROM transfers t LEFT JOIN entries e ON e.transfer_id = t.id"
            " GROUP BY t.id HAVING COALESCE(SUM(e.amount), 0) <> 0 OR COUNT(e.amount) = 0"
        ),
    ),
    (
        "transfer {}: entries are not its moves",
        (
            "SELECT t.id FROM transfers t JOIN entries e ON e.transfer_id = t.id GROUP BY t.id, t.moves"
            " HAVING COUNT(*) <> @length(t.moves)"
            " UNION SELECT t.id FROM transfers t, @moves(t.moves) m WHERE NOT EXISTS (SELECT 1 FROM entries e"
            " WHERE e.transfer_id = t.id AND e.account_id = @account AND e.amount = @amount)"
        ),
    ),
    (
        "account {} says {}, its entries sum to {}",
        (
            "SELECT a.id, a.balance, COALESCE(SUM(e.amount), 0) FROM balances a LEFT JOIN entries e"
            " ON e.account_id = a.id GROUP BY a.id, a.balance HAVING a.balance <> COALESCE(SUM(e.amount), 0)"
        ),
    ),
    (
        "account {} has {} tokens, which its kind may not",
        (
            "SELECT id, balance FROM balances WHERE owner_id IS NOT NULL"
            " AND ((kind <> 'debt' AND balance < 0) OR (kind = 'debt' AND balance > 0))"
        ),
    ),
    (
        "all accounts together sum to {}, not to zero",
        "SELECT SUM(balance) FROM balances HAVING SUM(balance) <> 0",
    ),
    (
        "{}: held are {}, the open holds sum to {}",
        (
            "SELECT a.id, a.balance, COALESCE(SUM(h.amount), 0) FROM balances a LEFT JOIN holds h"
            " ON h.fan_id = a.owner_id AND h.pot IS NULL WHERE a.kind = 'held' GROUP BY a.id, a.balance"
            " HAVING a.balance <> COALESCE(SUM(h.amount), 0)"
        ),
    ),
    (
        "{} has {}, the open stakes in it sum to {}",
        (
            "SELECT a.id, a.balance, COALESCE(SUM(h.amount), 0) FROM balances a LEFT JOIN holds h"
            " ON h.pot = a.id WHERE a.kind = 'pot' GROUP BY a.id, a.balance"
            " HAVING a.balance <> COALESCE(SUM(h.amount), 0)"
        ),
    ),
    (
        "hold {} is in {}, which there is not",
        (
            "SELECT h.reference, h.pot FROM holds h WHERE h.pot IS NOT NULL AND NOT EXISTS"
            " (SELECT 1 FROM accounts a WHERE a.id = h.pot AND a.kind = 'pot')"
        ),
    ),
    (
        "{}: the wallet has {}, its lots have {} free",
        (
            "SELECT a.id, a.balance, COALESCE(SUM(l.free), 0) FROM balances a LEFT JOIN token_lots l"
            " ON l.owner_id = a.owner_id WHERE a.kind = 'wallet' GROUP BY a.id, a.balance"
            " HAVING a.balance <> COALESCE(SUM(l.free), 0)"
        ),
    ),
    (
        "lot {} of {} tokens accounts for {}",
        (
            "SELECT l.id, l.tokens, l.free + l.reversed + l.withdrawn + COALESCE(SUM(u.held + u.spent), 0)"
            " FROM token_lots l LEFT JOIN lot_uses u ON u.lot_id = l.id"
            " GROUP BY l.id, l.tokens, l.free, l.reversed, l.withdrawn"
            " HAVING l.tokens <> l.free + l.reversed + l.withdrawn + COALESCE(SUM(u.held + u.spent), 0)"
        ),
    ),
    (
        "lots of {} sum to {}, its transfers brought {}",
        (
            "SELECT x.origin, x.tokens, COALESCE(-a.balance, 0) FROM (SELECT l.origin,"
            " SUM(l.tokens - l.reversed - l.withdrawn) - COALESCE(SUM((SELECT SUM(u.recovered) FROM lot_uses u"
            " WHERE u.lot_id = l.id)), 0) AS tokens FROM token_lots l WHERE l.source = 'purchase'"
            " GROUP BY l.origin) x"
            " LEFT JOIN balances a ON a.id = x.origin WHERE x.tokens <> COALESCE(-a.balance, 0)"
        ),
    ),
    (
        "promo gave {} tokens, its lots and what came back of them sum to {}",
        (
            "SELECT x.gave, x.lots FROM (SELECT"
            " COALESCE((SELECT -SUM(balance) FROM balances WHERE kind = 'promo'), 0) AS gave,"
            " COALESCE((SELECT SUM(tokens - reversed - withdrawn) FROM token_lots WHERE source = 'promo'), 0)"
            " - COALESCE((SELECT SUM(promo) FROM holds), 0) AS lots) x WHERE x.gave <> x.lots"
        ),
    ),
    (
        "lot {} of source {} came from {}",
        (
            "SELECT id, source, origin FROM token_lots WHERE (source = 'promo') <> (origin = 'promo')"
            " OR (source = 'promo' AND bad_at IS NOT NULL)"
        ),
    ),
    (
        "hold {} holds {} and paid {}, its lots hold {} and paid {}",
        (
            "SELECT h.reference, h.amount, h.earnings + h.commission - h.refunded, COALESCE(SUM(u.held), 0),"
            " COALESCE(SUM(u.spent), 0) FROM holds h LEFT JOIN lot_uses u ON u.reference = h.reference"
            " GROUP BY h.reference, h.amount, h.earnings, h.commission, h.refunded"
            " HAVING h.amount <> COALESCE(SUM(u.held), 0)"
            " OR h.earnings + h.commission - h.refunded <> COALESCE(SUM(u.spent), 0)"
        ),
    ),
    (
        "hold {} had {} taken back for bad payments, its lots had {}",
        (
            "SELECT h.reference, h.recovered, COALESCE(SUM(u.recovered), 0) FROM holds h LEFT JOIN lot_uses u"
            " ON u.reference = h.reference GROUP BY h.reference, h.recovered"
            " HAVING h.recovered <> COALESCE(SUM(u.recovered), 0)"
        ),
    ),
    (
        "lot {} is good or a gift, and {} of it were taken back",
        (
            "SELECT l.id, l.reversed + COALESCE(SUM(u.recovered), 0) FROM token_lots l LEFT JOIN lot_uses u"
            " ON u.lot_id = l.id WHERE l.bad_at IS NULL GROUP BY l.id, l.reversed"
            " HAVING l.reversed + COALESCE(SUM(u.recovered), 0) <> 0"
        ),
    ),
    (
        "lot {} is bad, and {} of it are free or with who was paid",
        (
            "SELECT l.id, l.free + COALESCE(SUM(u.spent - u.recovered), 0) FROM token_lots l LEFT JOIN lot_uses u"
            " ON u.lot_id = l.id WHERE l.bad_at IS NOT NULL GROUP BY l.id, l.free"
            " HAVING l.free + COALESCE(SUM(u.spent - u.recovered), 0) <> 0"
        ),
    ),
    (
        "{}: pending are {}, the settled holds' parts sum to {}",
        (
            "SELECT a.id, a.balance, COALESCE(SUM(h.pending), 0) FROM balances a LEFT JOIN holds h"
            " ON h.creator_id = a.owner_id WHERE a.kind = 'earnings_pending' GROUP BY a.id, a.balance"
            " HAVING a.balance <> COALESCE(SUM(h.pending), 0)"
        ),
    ),
    (
        "hold {} is contested and cleared {} tokens since {}",
        (
            "SELECT h.reference, -SUM(e.amount), h.contested_at FROM holds h JOIN transfers t"
            " ON t.reference = h.reference AND t.kind = 'clear' AND t.created_at > h.contested_at JOIN entries e"
            " ON e.transfer_id = t.id AND e.amount < 0 WHERE h.contested_at IS NOT NULL"
            " GROUP BY h.reference, h.contested_at"
        ),
    ),
    (
        "hold {} was cleared before it was due, or never due",
        "SELECT reference FROM holds WHERE cleared_at IS NOT NULL AND (clears_at IS NULL OR status <> 'settled')",
    ),
    (
        "fees have {}, the settled holds left {}",
        (
            "SELECT x.fees, x.kept FROM (SELECT"
            " COALESCE((SELECT SUM(balance) FROM balances WHERE kind = 'fees'), 0) AS fees,"
            " COALESCE((SELECT SUM(commission - fee_back) FROM holds), 0) AS kept) x WHERE x.fees <> x.kept"
        ),
    ),
    (
        "{}: the transfers of its settled holds paid {}, they say {}",
        (
            "SELECT h.reference, COALESCE(SUM(e.amount), 0), h.earnings + h.commission FROM holds h"
            " LEFT JOIN transfers t ON t.reference = h.reference AND t.kind IN (@paid)"
            " LEFT JOIN (SELECT e.transfer_id, SUM(e.amount) AS amount FROM entries e JOIN accounts a"
            " ON a.id = e.account_id AND a.kind IN ('earnings_pending', 'fees') GROUP BY e.transfer_id) e"
            " ON e.transfer_id = t.id WHERE h.status = 'settled' GROUP BY h.reference, h.earnings, h.commission"
            " HAVING COALESCE(SUM(e.amount), 0) <> h.earnings + h.commission"
        ),
    ),
    (
        "{} {} has no settled hold",
        (
            "SELECT t.kind, t.id FROM transfers t WHERE t.kind IN (@paid) AND NOT EXISTS"
            " (SELECT 1 FROM holds h WHERE h.reference = t.reference AND h.status = 'settled')"
        ),
    ),
    (
        "{} was paid {} times",
        (
            "SELECT reference, COUNT(*) FROM transfers WHERE kind IN (@paid)"
            " GROUP BY reference HAVING COUNT(*) > 1"
        ),
    ),
    (
        "{} owes {} and has {} tokens of cleared earnings",
        (
            "SELECT d.owner_id, -d.balance, e.balance FROM balances d JOIN balances e ON e.owner_id = d.owner_id"
            " AND e.kind = 'earnings' WHERE d.kind = 'debt' AND d.balance < 0 AND e.balance > 0"
        ),
    ),
)

_SESSIONS: tuple[tuple[str, str], ...] = (
    (
        "request {} is {}: held should be {}, is {}",
        (
            "SELECT r.id, r.status, r.total_cost, COALESCE(h.amount, 0) FROM private_stream_requests r"
            " LEFT JOIN holds h ON h.reference = r.id WHERE r.status IN ('queued', 'pending')"
            " AND r.total_cost <> COALESCE(h.amount, 0)"
        ),
    ),
    (
        "session {} is {}: held should be {}, is {}",
        (
            "SELECT s.id, s.status, s.total_held, COALESCE(h.amount, 0) FROM private_stream_sessions s"
            " LEFT JOIN holds h ON h.reference = s.request_id WHERE s.status <> 'ended'"
            " AND s.total_held <> COALESCE(h.amount, 0)"
        ),
    ),
    (
        "booking {} has {} tokens held, {} were promised",
        (
            "SELECT b.id, COALESCE(h.amount, 0), b.total_cost FROM bookings b LEFT JOIN holds h"
            " ON h.reference = b.request_id WHERE b.status = 'booked' AND b.total_cost <> COALESCE(h.amount, 0)"
        ),
    ),
    (
        "{} tokens are held for {}, which is neither an open request nor a booking nor a running session",
        (
            "SELECT h.amount, h.reference FROM holds h WHERE h.amount <> 0 AND h.pot IS NULL AND NOT EXISTS"
            " (SELECT 1 FROM private_stream_requests r WHERE r.id = h.reference AND r.status IN"
            " ('queued', 'pending')) AND NOT EXISTS"
            " (SELECT 1 FROM private_stream_sessions s WHERE s.request_id = h.reference"
            " AND s.status <> 'ended') AND NOT EXISTS (SELECT 1 FROM bookings b WHERE b.request_id = h.reference"
            " AND b.status = 'booked')"
        ),
    ),
    (
        "session {} is {} and has {} settlements",
        (
            "SELECT s.id, s.status, COUNT(t.id) FROM private_stream_sessions s LEFT JOIN transfers t"
            " ON t.reference = s.request_id AND t.kind = 'settle' GROUP BY s.id, s.status, s.total_held"
            " HAVING COUNT(t.id) <> CASE WHEN s.status = 'ended' AND s.total_held > 0 THEN 1 ELSE 0 END"
        ),
    ),
    (
        "settlement {} belongs to no session",
        (
            "SELECT t.id FROM transfers t WHERE t.kind = 'settle' AND NOT EXISTS"
            " (SELECT 1 FROM private_stream_sessions s WHERE s.request_id = t.reference)"
        ),
    ),
    (
        (
            "session {} says that {} were held, the creator got {}, fees got {}, the fan got {} back;"
            " its settlement says {}, {}, {}, {}"
        ),
        (
            "SELECT x.id, x.total_held, x.total_earnings, x.commission, x.refunded, x.held, x.earned, x.fee,"
            " x.back FROM (SELECT s.id, s.total_held, s.total_earnings, s.commission, s.refunded,"
            " -SUM(CASE WHEN a.kind = 'held' THEN e.amount ELSE 0 END) AS held,"
            " SUM(CASE WHEN a.kind = 'earnings_pending' THEN e.amount ELSE 0 END) AS earned,"
            " SUM(CASE WHEN a.kind = 'fees' THEN e.amount ELSE 0 END) AS fee,"
            " SUM(CASE WHEN a.kind = 'wallet' THEN e.amount ELSE 0 END) AS back"
            " FROM private_stream_sessions s JOIN transfers t ON t.reference = s.request_id AND t.kind = 'settle'"
            " JOIN entries e ON e.transfer_id = t.id JOIN accounts a ON a.id = e.account_id"
            " WHERE s.status = 'ended'"
            " GROUP BY s.id, s.total_held, s.total_earnings, s.commission, s.refunded) x"
            " WHERE x.total_held <> x.held OR x.total_earnings <> x.earned OR x.commission <> x.fee"
            " OR x.refunded <> x.back"
        ),
    ),
)

_BATTLES: tuple[tuple[str, str], ...] = (
    (
        "battle {} is {}: its fees and side tips are {}, its pot has {}",
        (
            "SELECT x.id, x.status, x.paid_in, x.pot FROM (SELECT b.id, b.status,"
            " COALESCE((SELECT SUM(s.fee) FROM battle_sides s WHERE s.battle_id = b.id), 0)"
            " + COALESCE((SELECT SUM(t.amount) FROM battle_tips t WHERE t.battle_id = b.id"
            " AND t.returned_at IS NULL), 0) AS paid_in,"
            " COALESCE((SELECT a.balance FROM balances a WHERE a.id = 'pot:' || b.id), 0) AS pot FROM battles b) x"
            " WHERE x.pot <> CASE WHEN x.status IN ('open', 'running') THEN x.paid_in ELSE 0 END"
        ),
    ),
    (
        "{} has {} and belongs to no battle",
        (
            "SELECT a.id, a.balance FROM balances a WHERE a.kind = 'pot' AND NOT EXISTS"
            " (SELECT 1 FROM battles b WHERE a.id = 'pot:' || b.id)"
        ),
    ),
    (
        "battle {} shared out {}, its sides say {}",
        (
            "SELECT b.id, COALESCE(p.paid, 0), COALESCE(s.shares, 0) FROM battles b"
            " LEFT JOIN (SELECT battle_id, SUM(share) AS shares FROM battle_sides GROUP BY battle_id) s"
            " ON s.battle_id = b.id"
            " LEFT JOIN (SELECT @before_colon AS battle_id, SUM(earnings + commission) AS paid FROM holds"
            " WHERE status = 'settled' GROUP BY @before_colon) p ON p.battle_id = b.id"
            " WHERE COALESCE(p.paid, 0) <> COALESCE(s.shares, 0)"
        ),
    ),
    (
        "share {} belongs to no battle that has ended",
        (
            "SELECT id FROM transfers WHERE kind = 'share'"
            " AND @before_colon NOT IN (SELECT id FROM battles WHERE status = 'ended')"
        ),
    ),
)


def audit(tx: Session) -> AuditReport:
    """All checks of docs/money.md's "Proof" that this release has something to check for."""
    problems = (*books_problems(tx), *_found(tx, _SESSIONS), *_found(tx, _BATTLES))
    return AuditReport(
        ok=not problems,
        problems=problems,
        accounts=int(tx.execute(text("SELECT COUNT(*) FROM accounts")).scalar_one()),
        transfers=int(tx.execute(text("SELECT COUNT(*) FROM transfers")).scalar_one()),
    )


def books_problems(tx: Session) -> tuple[str, ...]:
    """The checks that need the ledger alone: balanced, cached = summed, no negative account, lots add up."""
    return _found(tx, _BOOKS)


# Kinds of what pays a creator out of a hold, once a reference.
_PAID = "'settle', 'tip', 'subscription', 'pass', 'recording', 'share'"
# What the two databases spell differently: what is in a JSON array, and the first word of a reference.
_SPELLING = {
    "sqlite": {
        "@length": "json_array_length",
        "@moves": "json_each",
        "@account": "json_extract(m.value, '$[0]')",
        "@amount": "json_extract(m.value, '$[1]')",
        "@before_colon": "substr(reference, 1, instr(reference, ':') - 1)",
    },
    "postgresql": {
        "@length": "jsonb_array_length",
        "@moves": "jsonb_array_elements",
        "@account": "m.value->>0",
        "@amount": "CAST(m.value->>1 AS bigint)",
        "@before_colon": "split_part(reference, ':', 1)",
    },
}


def _found(tx: Session, checks: tuple[tuple[str, str], ...]) -> tuple[str, ...]:
    problems: list[str] = []
    for sentence, written in checks:
        query = written.replace("@paid", _PAID)
        for word, spelling in _SPELLING[tx.get_bind().dialect.name].items():
            query = query.replace(word, spelling)
        found = tx.execute(text(f"{query} LIMIT {MOST_PER_CHECK}"))
        problems += [sentence.format(*row) for row in found]
    return tuple(problems)
