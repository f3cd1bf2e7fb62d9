"""What a movement reads before it decides, as functions of PostgreSQL; ``models.ledger_sql`` has it for SQLite.

Many write there, so a fan's wallet is locked first, and each statement after that sees what is committed by
then: nothing is a mixture of before and after a wait. Small statements, whose plans the server keeps, cost
it two thirds of the one join that SQLite gets. They decide nothing: that is the ledger's, for both.
"""

from __future__ import annotations

_COLUMNS = """available bigint, is_frozen_at timestamptz, cap integer,
  its_fan text, its_status text, is_held bigint,
  first_id text, first_kind text, first_reference text, first_at timestamptz, first_moves jsonb,
  lot text, is_bad boolean, is_free bigint, is_used bigint"""

_TO_SPEND = f"""
CREATE OR REPLACE FUNCTION to_spend(wanted text, key text, wallet text)
RETURNS TABLE ({_COLUMNS}) LANGUAGE plpgsql ROWS 1 AS $$
#variable_conflict use_column
DECLARE who text;
BEGIN
  SELECT balance, owner_id INTO available, who FROM accounts WHERE id = wallet FOR NO KEY UPDATE;
  IF NOT FOUND THEN
    RETURN;
  END IF;
  SELECT spending_frozen_at, daily_cap_tokens INTO is_frozen_at, cap FROM people WHERE id = who;
  SELECT fan_id, status, amount INTO its_fan, its_status, is_held FROM holds WHERE reference = wanted;
  SELECT id, kind, reference, created_at, moves INTO first_id, first_kind, first_reference, first_at, first_moves
    FROM transfers WHERE idempotency_key = key;
  FOR lot, is_bad, is_free IN SELECT id, bad_at IS NOT NULL, free FROM token_lots
    WHERE owner_id = who AND free > 0 ORDER BY bad_at IS NOT NULL, created_at, id
  LOOP
    IF its_fan IS NOT NULL THEN
      SELECT held INTO is_used FROM lot_uses WHERE reference = wanted AND lot_id = lot;
    END IF;
    RETURN NEXT;
  END LOOP;
  IF lot IS NULL THEN
    RETURN NEXT;
  END IF;
END $$
"""

_TO_SETTLE = """
CREATE OR REPLACE FUNCTION to_settle(key text, wanted text)
RETURNS TABLE (its_fan text, its_status text, is_held bigint, has_bad_lots boolean,
  first_id text, first_kind text, first_reference text, first_at timestamptz, first_moves jsonb,
  lot text, is_bad boolean, is_free bigint, is_used bigint) LANGUAGE plpgsql ROWS 1 AS $$
#variable_conflict use_column
BEGIN
  SELECT fan_id INTO its_fan FROM holds WHERE reference = wanted;
  PERFORM 1 FROM accounts WHERE id = 'wallet:' || its_fan FOR NO KEY UPDATE;
  IF NOT FOUND THEN
    RETURN;
  END IF;
  SELECT status, amount INTO its_status, is_held FROM holds WHERE reference = wanted;
  has_bad_lots := EXISTS (SELECT FROM token_lots WHERE owner_id = its_fan AND bad_at IS NOT NULL);
  SELECT id, kind, reference, created_at, moves INTO first_id, first_kind, first_reference, first_at, first_moves
    FROM transfers WHERE idempotency_key = key;
  FOR lot, is_bad, is_free, is_used IN SELECT l.id, l.bad_at IS NOT NULL, l.free, u.held
    FROM lot_uses u JOIN token_lots l ON l.id = u.lot_id
    WHERE u.reference = wanted ORDER BY l.bad_at IS NOT NULL, l.created_at, l.id
  LOOP
    RETURN NEXT;
  END LOOP;
  IF lot IS NULL THEN
    RETURN NEXT;
  END IF;
END $$
"""

FUNCTIONS = (_TO_SPEND, _TO_SETTLE)
