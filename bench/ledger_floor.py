"""The floor of ``make bench-ledger``: the same rows as a hold and a settlement, written by one function each.

In a schema of its own, with the tables of the ledger copied: columns, indexes, CHECKs, foreign keys, fill
factors, but none of our triggers: the function itself writes what they write. A hold is a transfer with its key
and moves, two entries, two balances, the hold, its lot, its lot's use; a settlement is a transfer, four
entries, two balances, the creator's and the platform's slots, the hold, the use, the lot. No lock is taken
beyond what the writes take, nothing is looked up twice, nothing can be refused. What everybody's transfers
share comes last.

There are two of it. ``same rows`` writes to a connection's own slots, as the ledger does, and is what the
ratio is of. ``one row`` keeps a creator's and the platform's balance in one row each, as a plain function would:
all clients wait there for each other's commit.
"""

from __future__ import annotations

from models.books_rules import SLOTS

TABLES = ("accounts", "account_slots", "transfers", "entries", "holds", "token_lots", "lot_uses")
_LISTED = ", ".join(f"'{table}'" for table in TABLES)

_COPY = (
    "CREATE SCHEMA floor",
    *(f"CREATE TABLE floor.{table} (LIKE public.{table} INCLUDING ALL)" for table in TABLES),
    "ALTER TABLE floor.account_slots SET (fillfactor = 50)",
    # LIKE leaves foreign keys out: the same ones, between the copies.
    f"""
    DO $$ DECLARE it record; BEGIN
    FOR it IN SELECT conrelid::regclass::text AS home, conname, pg_get_constraintdef(oid) AS rule
      FROM pg_constraint WHERE contype = 'f' AND connamespace = 'public'::regnamespace
      AND conrelid::regclass::text IN ({_LISTED})
    LOOP
      EXECUTE format('ALTER TABLE floor.%I ADD CONSTRAINT %I %s', it.home, it.conname,
        regexp_replace(it.rule, 'REFERENCES (accounts|transfers|holds|token_lots)\\(', 'REFERENCES floor.\\1('));
    END LOOP; END $$
    """,
    *(f"INSERT INTO floor.{table} SELECT * FROM public.{table}" for table in TABLES),
    "CREATE TABLE floor.fans (number integer PRIMARY KEY, fan text NOT NULL, creator text NOT NULL)",
    """
    INSERT INTO floor.accounts (id, kind, owner_id, balance, last_entry)
    SELECT kind || ':' || id, kind, id, 0, 0 FROM people, unnest(ARRAY['held', 'earnings_pending']) kind
    UNION ALL SELECT 'fees', 'fees', NULL, 0, 0 ON CONFLICT DO NOTHING
    """,
    f"""
    INSERT INTO floor.account_slots SELECT id, slot, 0 FROM floor.accounts, generate_series(0, {SLOTS - 1}) slot
    WHERE kind IN ('earnings_pending', 'fees')
    """,
)

_HOLD = """
CREATE FUNCTION floor.hold(fan_number integer, price bigint) RETURNS text LANGUAGE plpgsql AS $$
DECLARE who text; lot text; ref text := gen_random_uuid()::text; trf text := gen_random_uuid()::text;
BEGIN
  SELECT fan INTO who FROM floor.fans WHERE number = fan_number;
  SELECT id INTO lot FROM floor.token_lots WHERE owner_id = who AND free >= price ORDER BY created_at, id LIMIT 1;
  INSERT INTO floor.transfers ({transfer}) VALUES (trf, 'hold', 'hold:' || ref, ref, 'bench', now(){moves});
  INSERT INTO floor.holds (reference, fan_id, status, amount, earnings, commission, recovered, refunded, fee_back,
    pending, promo, created_at) VALUES (ref, who, 'open', price, 0, 0, 0, 0, 0, 0, 0, now());
  UPDATE floor.token_lots SET free = free - price WHERE id = lot;
  INSERT INTO floor.lot_uses (reference, lot_id, held, spent, recovered) VALUES (ref, lot, price, 0, 0);
  INSERT INTO floor.entries (transfer_id, account_id, amount)
    VALUES (trf, 'wallet:' || who, -price), (trf, 'held:' || who, price);
  UPDATE floor.accounts SET balance = balance - price WHERE id = 'wallet:' || who;
  UPDATE floor.accounts SET balance = balance + price WHERE id = 'held:' || who;
  RETURN ref;
END $$
"""

_SETTLE = """
CREATE FUNCTION floor.settle(
  ref text, fan_number integer, price bigint, earned bigint, fee bigint, one_row boolean)
RETURNS void LANGUAGE plpgsql AS $$
DECLARE who text; payee text; trf text := gen_random_uuid()::text;
BEGIN
  SELECT fan, creator INTO who, payee FROM floor.fans WHERE number = fan_number;
  INSERT INTO floor.transfers ({transfer}) VALUES (trf, 'settle', 'settle:' || ref, ref, 'bench', now(){moves});
  UPDATE floor.holds SET status = 'settled', amount = 0, creator_id = payee, earnings = earned, commission = fee,
    pending = earned, closed_at = now(), clears_at = now() + interval '30 days' WHERE reference = ref;
  UPDATE floor.lot_uses SET held = 0, spent = earned + fee WHERE reference = ref;
  UPDATE floor.token_lots SET free = free + price - earned - fee
    WHERE id = (SELECT lot_id FROM floor.lot_uses WHERE reference = ref);
  INSERT INTO floor.entries (transfer_id, account_id, amount) VALUES (trf, 'wallet:' || who, price - earned - fee),
    (trf, 'held:' || who, -price), (trf, 'earnings_pending:' || payee, earned), (trf, 'fees', fee);
  UPDATE floor.accounts SET balance = balance + price - earned - fee WHERE id = 'wallet:' || who;
  UPDATE floor.accounts SET balance = balance - price WHERE id = 'held:' || who;
  IF one_row THEN
    UPDATE floor.accounts SET balance = balance + earned WHERE id = 'earnings_pending:' || payee;
    UPDATE floor.accounts SET balance = balance + fee WHERE id = 'fees';
  ELSE
    UPDATE floor.account_slots SET balance = balance + earned
      WHERE account_id = 'earnings_pending:' || payee AND slot = pg_backend_pid() % {slots};
    UPDATE floor.account_slots SET balance = balance + fee
      WHERE account_id = 'fees' AND slot = pg_backend_pid() % {slots};
  END IF;
END $$
"""
_TRANSFER = "id, kind, idempotency_key, reference, cause_id, created_at, moves"

_HOLD_MOVES = (
    ", jsonb_build_array(jsonb_build_array('wallet:' || who, -price), jsonb_build_array('held:' || who, price))"
)
_SETTLE_MOVES = (
    ", jsonb_build_array(jsonb_build_array('wallet:' || who, price - earned - fee),"
    " jsonb_build_array('held:' || who, -price), jsonb_build_array('earnings_pending:' || payee, earned),"
    " jsonb_build_array('fees', fee))"
)

FLOOR = (
    *_COPY,
    _HOLD.format(transfer=_TRANSFER, moves=_HOLD_MOVES),
    _SETTLE.format(transfer=_TRANSFER, moves=_SETTLE_MOVES, slots=SLOTS),
)

SCRIPT = """\\set fan :client_id * {fans} + random(0, {fans} - 1)
SELECT floor.hold(:fan, {price}) AS ref \\gset
SELECT floor.settle(:ref, :fan, {price}, {earnings}, {commission}, {one_row});
"""
