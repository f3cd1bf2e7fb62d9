"""The statements of the movements; ``?`` is a value. What is written, both databases speak in the same words.

An UPDATE says which state of its row it expects (compare and set); ``models.statements`` executes them. What
is read first, PostgreSQL has as functions (``models.books_calls``), which lock the fan's wallet and write the
plainest movements at once: the first column says whether that was done.
"""

from __future__ import annotations

from models.statements import Query

NEW_HOLD = (
    "INSERT INTO holds (reference, fan_id, status, amount, earnings, commission, recovered, refunded, fee_back,"
    " pending, promo, created_at) VALUES (?, ?, 'open', ?, 0, 0, 0, 0, 0, 0, 0, ?)"
)
NEW_STAKE = (
    "INSERT INTO holds (reference, fan_id, status, amount, pot, earnings, commission, recovered, refunded,"
    " fee_back, pending, promo, created_at) VALUES (?, ?, 'open', ?, ?, 0, 0, 0, 0, 0, 0, 0, ?)"
)
MORE_HELD = (
    "UPDATE holds SET amount = amount + ?, status = 'open', closed_at = NULL"
    " WHERE reference = ? AND amount = ? AND status <> 'settled'"
)
LESS_HELD = (
    "UPDATE holds SET amount = amount - ?, status = ?, closed_at = ? WHERE reference = ? AND amount = ?"
    " AND status = 'open'"
)
SETTLED = (
    "UPDATE holds SET status = 'settled', amount = 0, creator_id = ?, earnings = ?, commission = ?, pending = ?,"
    " closed_at = ?, clears_at = ? WHERE reference = ? AND amount = ? AND status = 'open'"
)
PAID = (
    "INSERT INTO holds (reference, fan_id, creator_id, status, amount, earnings, commission, recovered, refunded,"
    " fee_back, pending, promo, created_at, closed_at, clears_at)"
    " VALUES (?, ?, ?, 'settled', 0, ?, ?, 0, 0, 0, ?, 0, ?, ?, ?)"
)
NEW_LOT = (
    "INSERT INTO token_lots (id, owner_id, source, origin, tokens, free, reversed, withdrawn, bites, created_at)"
    " VALUES (?, ?, ?, ?, ?, ?, 0, 0, 0, ?)"
)
FREE = "UPDATE token_lots SET free = free + ? WHERE id = ? AND free = ? AND (bad_at IS NOT NULL) = ?"
NEW_USE = "INSERT INTO lot_uses (reference, lot_id, held, spent, recovered) VALUES (?, ?, ?, ?, 0)"
USE = "UPDATE lot_uses SET held = held + ?, spent = spent + ? WHERE reference = ? AND lot_id = ? AND held = ?"
USE_ALL = (
    "UPDATE lot_uses SET held = 0, spent = spent + held WHERE reference = ? AND lot_id = ? AND held = ?"
    " AND EXISTS (SELECT 1 FROM token_lots l WHERE l.id = lot_id AND (l.bad_at IS NOT NULL) = ?)"
)
NEW_TRANSFER = (
    "INSERT INTO transfers (id, kind, idempotency_key, reference, reverses, lot_id, cause_id, moves, created_at)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
SPENDER = Query(
    sqlite=(
        "SELECT 0, a.balance, p.spending_frozen_at, p.daily_cap_tokens, h.fan_id, h.status, h.amount,"
        " t.id, t.kind, t.reference, t.created_at, t.moves, l.id, l.bad_at IS NOT NULL, l.free, u.held"
        " FROM accounts a JOIN people p ON p.id = a.owner_id"
        " LEFT JOIN holds h ON h.reference = ? LEFT JOIN transfers t ON t.idempotency_key = ?"
        " LEFT JOIN token_lots l ON l.owner_id = p.id AND l.free > 0"
        " LEFT JOIN lot_uses u ON u.reference = h.reference AND u.lot_id = l.id"
        " WHERE a.id = ? ORDER BY l.bad_at IS NOT NULL, l.created_at, l.id"
    ),
    postgresql="SELECT * FROM to_spend(%s, %s, %s, %s, %s, %s, %s)",
)
HELD = Query(
    sqlite=(
        "SELECT 0, h.fan_id, h.status, h.amount, EXISTS (SELECT 1 FROM token_lots b WHERE b.owner_id = h.fan_id"
        " AND b.bad_at IS NOT NULL), t.id, t.kind, t.reference, t.created_at, t.moves, l.id,"
        " l.bad_at IS NOT NULL, l.free, u.held"
        " FROM holds h JOIN accounts a ON a.id = 'wallet:' || h.fan_id"
        " LEFT JOIN transfers t ON t.idempotency_key = ? LEFT JOIN lot_uses u ON u.reference = h.reference"
        " LEFT JOIN token_lots l ON l.id = u.lot_id"
        " WHERE h.reference = ? ORDER BY l.bad_at IS NOT NULL, l.created_at, l.id"
    ),
    postgresql="SELECT * FROM to_settle(%s, %s, %s, %s, %s, %s, %s, %s, %s)",
)
