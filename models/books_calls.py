"""What a movement asks of PostgreSQL, as two functions: they read what it decides by, and write where it is plain.

Many write there, so a fan's wallet is locked first, and each statement after that sees what is committed by
then: nothing is a mixture of before and after a wait. The plainest case, one good lot behind an open account,
is written at once, by the statements that ``models.ledger`` would write it by (``models.ledger_sql``): a
movement is one call then. All others, refusals too, are read and decided by the ledger, as on SQLite.
"""

from __future__ import annotations

from models.ledger_sql import FREE, NEW_HOLD, NEW_TRANSFER, NEW_USE, SETTLED, USE, USE_ALL


def _with(statement: str, *names: str) -> str:
    """A statement with names where its values are. A row not as it was read is a serialization failure."""
    for name in names:
        statement = statement.replace("?", name, 1)
    stale = " IF NOT FOUND THEN PERFORM refuse_stale(); END IF;" if statement.startswith("UPDATE") else ""
    return f"{statement};{stale}"


_FIRST = "first_id text, first_kind text, first_reference text, first_at timestamptz, first_moves jsonb"
_LOT = "lot text, is_bad boolean, is_free bigint, is_used bigint"
_FIND_FIRST = """SELECT id, kind, reference, created_at, moves INTO
    first_id, first_kind, first_reference, first_at, first_moves FROM transfers WHERE idempotency_key = key;"""

_SPEND = """
CREATE OR REPLACE FUNCTION to_spend(wanted text, key text, wallet text,
  wish bigint, transfer text, cause text, at timestamptz)
RETURNS TABLE (done boolean, available bigint, is_frozen_at timestamptz, cap integer,
  its_fan text, its_status text, is_held bigint, @FIRST, @LOT) LANGUAGE plpgsql ROWS 1 AS $$
#variable_conflict use_column
DECLARE
  who text;
  plain_moves jsonb;
BEGIN
  done := false;
  SELECT balance, owner_id INTO available, who FROM accounts WHERE id = wallet FOR NO KEY UPDATE;
  IF NOT FOUND THEN
    RETURN;
  END IF;
  SELECT spending_frozen_at, daily_cap_tokens INTO is_frozen_at, cap FROM people WHERE id = who;
  SELECT fan_id, status, amount INTO its_fan, its_status, is_held FROM holds WHERE reference = wanted;
  @FIND_FIRST
  FOR lot, is_bad, is_free IN SELECT id, bad_at IS NOT NULL, free FROM token_lots
    WHERE owner_id = who AND free > 0 ORDER BY bad_at IS NOT NULL, created_at, id
  LOOP
    IF wish <= is_free AND wish <= available AND NOT is_bad AND its_fan IS NULL AND first_id IS NULL
      AND is_frozen_at IS NULL AND cap IS NULL
    THEN
      @HOLD
      @DRAW
      @RESERVE
      plain_moves := jsonb_build_array(jsonb_build_array('wallet:' || who, -wish),
        jsonb_build_array('held:' || who, wish));
      @TRANSFER_OF_HOLD
      done := true;
      RETURN NEXT;
      RETURN;
    END IF;
    wish := NULL;
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

_SETTLE = """
CREATE OR REPLACE FUNCTION to_settle(key text, wanted text,
  payee text, earned bigint, fee bigint, transfer text, cause text, at timestamptz, clears timestamptz)
RETURNS TABLE (done boolean, its_fan text, its_status text, is_held bigint, has_bad_lots boolean,
  @FIRST, @LOT) LANGUAGE plpgsql ROWS 1 AS $$
#variable_conflict use_column
DECLARE
  back bigint;
  plain_moves jsonb;
BEGIN
  done := false;
  SELECT fan_id INTO its_fan FROM holds WHERE reference = wanted;
  PERFORM 1 FROM accounts WHERE id = 'wallet:' || its_fan FOR NO KEY UPDATE;
  IF NOT FOUND THEN
    RETURN;
  END IF;
  SELECT status, amount INTO its_status, is_held FROM holds WHERE reference = wanted;
  has_bad_lots := EXISTS (SELECT FROM token_lots WHERE owner_id = its_fan AND bad_at IS NOT NULL);
  @FIND_FIRST
  back := is_held - earned - fee;
  FOR lot, is_bad, is_free, is_used IN SELECT l.id, l.bad_at IS NOT NULL, l.free, u.held
    FROM lot_uses u JOIN token_lots l ON l.id = u.lot_id
    WHERE u.reference = wanted ORDER BY l.bad_at IS NOT NULL, l.created_at, l.id
  LOOP
    IF earned > 0 AND fee > 0 AND back >= 0 AND is_used = is_held AND its_status = 'open' AND first_id IS NULL
      AND NOT has_bad_lots
    THEN
      @SETTLED
      plain_moves := jsonb_build_array(jsonb_build_array('held:' || its_fan, -is_held),
        jsonb_build_array('earnings_pending:' || payee, earned), jsonb_build_array('fees', fee));
      IF back > 0 THEN
        @PART_SPENT
        @RETURN_REST
        plain_moves := jsonb_build_array(jsonb_build_array('wallet:' || its_fan, back)) || plain_moves;
      ELSE
        @ALL_SPENT
      END IF;
      @TRANSFER_OF_SETTLEMENT
      done := true;
      RETURN NEXT;
      RETURN;
    END IF;
    -- The first row says whether it was done: what is not plain at the first lot is not done at all.
    earned := NULL;
    RETURN NEXT;
  END LOOP;
  IF lot IS NULL THEN
    RETURN NEXT;
  END IF;
END $$
"""

_WORDS = {
    "@HOLD": _with(NEW_HOLD, "wanted", "who", "wish", "at"),
    "@DRAW": _with(FREE, "-wish", "lot", "is_free", "false"),
    "@RESERVE": _with(NEW_USE, "wanted", "lot", "wish", "0"),
    "@TRANSFER_OF_HOLD": _with(
        NEW_TRANSFER, "transfer", "'hold'", "key", "wanted", "NULL", "NULL", "cause", "plain_moves", "at"
    ),
    "@SETTLED": _with(SETTLED, "payee", "earned", "fee", "earned", "at", "clears", "wanted", "is_held"),
    "@PART_SPENT": _with(USE, "-is_held", "earned + fee", "wanted", "lot", "is_held"),
    "@RETURN_REST": _with(FREE, "back", "lot", "is_free", "false"),
    "@ALL_SPENT": _with(USE_ALL, "wanted", "lot", "is_held", "false"),
    "@TRANSFER_OF_SETTLEMENT": _with(
        NEW_TRANSFER, "transfer", "'settle'", "key", "wanted", "NULL", "NULL", "cause", "plain_moves", "at"
    ),
    "@FIND_FIRST": _FIND_FIRST,
    "@FIRST": _FIRST,
    "@LOT": _LOT,
}


def _in_full(function: str) -> str:
    for word, meaning in _WORDS.items():
        function = function.replace(word, meaning)
    return function


FUNCTIONS = (_in_full(_SPEND), _in_full(_SETTLE))
