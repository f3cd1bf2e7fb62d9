"""What the databases themselves hold of the ledger, against everybody who may write to them by SQL.

A transfer is written whole: one INSERT into ``transfers`` with all its ``moves``. Triggers do the rest:

- the moves sum to zero, are two or more, and name each account once;
- they become the entries, which nobody else can insert; so there is no entry without its transfer, no
  transfer without its entries, and none that does not balance, at any moment and not only at commit;
- each entry changes its account's cached balance, and nobody else can; a new account starts at zero, none
  is deleted; a person's balance is never negative (CHECK);
- transfers and entries are never changed or deleted.

How nobody else can: PostgreSQL knows whether a statement comes from within a trigger. SQLite does not; there
an entry must be what its transfer says, and a balance changes only by the account's newest entry, which
``accounts.last_entry`` then names; and what is there already is looked for, because INSERT OR REPLACE
would delete it without a word. Whoever may drop triggers may do everything: the audit is for them.

PostgreSQL has many writers. What everybody's transfers share (``STRIPED``) is kept in slots, a row for one
connection in so many, so that no two wait for each other's commit; a balance is the account's row and its
slots together (view ``balances``). Only taking from a creator's pending earnings needs them in one place,
and folds them into the account first. SQLite has one writer and no slots.
"""

from __future__ import annotations

from sqlalchemy import MetaData, event, text
from sqlalchemy.engine import Connection

from models.books_calls import FUNCTIONS
from models.db import Base

STRIPED = ("earnings_pending", "fees", "gateway", "payouts", "promo")
SLOTS = 64
PERSONAL = ("wallet", "held", "earnings_pending", "earnings", "debt")
APPEND_ONLY = ("transfers", "entries")

_VIEW = (
    "SELECT a.id, a.kind, a.owner_id, a.balance + COALESCE((SELECT SUM(s.balance) FROM account_slots s"
    " WHERE s.account_id = a.id), 0) AS balance FROM accounts a"
)


def _listed(words: tuple[str, ...]) -> str:
    return ", ".join(f"'{word}'" for word in words)


_POST = """
CREATE OR REPLACE FUNCTION post_transfer() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
  moved record;
  what text;
  total numeric := 0;
  folds boolean := false;
  own text[] := '{}';
  sums bigint[] := '{}';
  shared text[] := '{}';
  shares bigint[] := '{}';
  done text[] := '{}';
BEGIN
  FOR moved IN SELECT move->>0 AS account, (move->>1)::bigint AS amount FROM jsonb_array_elements(NEW.moves) move
  LOOP
    total := total + moved.amount;
    what := split_part(moved.account, ':', 1);
    IF what IN (@STRIPED) AND (moved.amount > 0 OR what <> 'earnings_pending') THEN
      shared := shared || moved.account;
      shares := shares || moved.amount;
    ELSE
      own := own || moved.account;
      sums := sums || moved.amount;
      folds := folds OR what = 'earnings_pending';
    END IF;
  END LOOP;
  IF total <> 0 OR cardinality(own) + cardinality(shared) < 2 THEN
    RAISE EXCEPTION 'transfer % does not balance', NEW.id USING ERRCODE = 'check_violation';
  END IF;
  -- Two rows in one statement: an UPDATE reads the table's CHECKs anew, which costs as much as the row.
  IF cardinality(own) = 2 AND NOT folds THEN
    FOR moved IN UPDATE accounts SET balance = balance + CASE id WHEN own[1] THEN sums[1] ELSE sums[2] END
      WHERE id IN (own[1], own[2]) RETURNING id
    LOOP
      done := done || moved.id::text;
    END LOOP;
  END IF;
  IF cardinality(shared) = 2 THEN
    FOR moved IN UPDATE account_slots
      SET balance = balance + CASE account_id WHEN shared[1] THEN shares[1] ELSE shares[2] END
      WHERE slot = pg_backend_pid() % @SLOTS AND account_id IN (shared[1], shared[2]) RETURNING account_id AS id
    LOOP
      done := done || moved.id::text;
    END LOOP;
  END IF;
  IF cardinality(done) < cardinality(own) + cardinality(shared) THEN
    FOR number IN 1 .. cardinality(own) LOOP
      PERFORM post_to_account(own[number], sums[number]) WHERE own[number] <> ALL (done);
    END LOOP;
    FOR number IN 1 .. cardinality(shared) LOOP
      PERFORM post_to_slot(shared[number], shares[number]) WHERE shared[number] <> ALL (done);
    END LOOP;
  END IF;
  INSERT INTO entries (transfer_id, account_id, amount)
    SELECT NEW.id, unnest(own || shared), unnest(sums || shares);
  RETURN NULL;
END $$
"""

_POST_TO_ACCOUNT = """
CREATE OR REPLACE FUNCTION post_to_account(account text, tokens bigint) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  what text := split_part(account, ':', 1);
  folded numeric := 0;
  locked integer[];
BEGIN
  IF what = 'earnings_pending' THEN
    PERFORM 1 FROM accounts WHERE id = account FOR NO KEY UPDATE;
    -- What is summed is what was locked, and nothing else is emptied: another slot may be made meanwhile.
    SELECT COALESCE(SUM(balance), 0), array_agg(slot) INTO folded, locked
      FROM (SELECT slot, balance FROM account_slots WHERE account_id = account
        ORDER BY slot FOR NO KEY UPDATE) mine;
    UPDATE account_slots SET balance = 0 WHERE account_id = account AND slot = ANY (locked) AND balance <> 0;
  END IF;
  UPDATE accounts SET balance = balance + tokens + folded WHERE id = account;
  IF NOT FOUND THEN
    PERFORM open_account(account, what);
    UPDATE accounts SET balance = balance + tokens WHERE id = account;
  END IF;
END $$
"""

_POST_TO_SLOT = """
CREATE OR REPLACE FUNCTION post_to_slot(account text, tokens bigint) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  UPDATE account_slots SET balance = balance + tokens
    WHERE account_id = account AND slot = pg_backend_pid() % @SLOTS;
  IF NOT FOUND THEN
    PERFORM open_account(account, split_part(account, ':', 1));
    INSERT INTO account_slots AS mine (account_id, slot, balance)
      VALUES (account, pg_backend_pid() % @SLOTS, tokens)
      ON CONFLICT (account_id, slot) DO UPDATE SET balance = mine.balance + EXCLUDED.balance;
  END IF;
END $$
"""

_OPEN = """
CREATE OR REPLACE FUNCTION open_account(account text, what text) RETURNS void LANGUAGE sql AS $$
  INSERT INTO accounts (id, kind, owner_id, balance, last_entry)
  VALUES (account, what, CASE WHEN what IN (@PERSONAL) THEN split_part(account, ':', 2) END, 0, 0)
  ON CONFLICT DO NOTHING
$$
"""

_FUNCTIONS = (
    """
CREATE OR REPLACE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION '% is append-only', TG_TABLE_NAME; END $$
""",
    """
CREATE OR REPLACE FUNCTION refuse_hand() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION '% changes by transfers alone', TG_TABLE_NAME; END $$
""",
    """
CREATE OR REPLACE FUNCTION refuse_stale() RETURNS integer LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION 'a row was not as it was read' USING ERRCODE = 'serialization_failure'; END $$
""",
)


def _postgresql() -> tuple[str, ...]:
    def trigger(name: str, when: str, table: str, rest: str) -> str:
        return f"CREATE OR REPLACE TRIGGER {table}_{name} {when} ON {table} {rest}"

    by_hand = "FOR EACH STATEMENT WHEN (pg_trigger_depth() = 0) EXECUTE FUNCTION refuse_hand()"
    return (
        *_FUNCTIONS,
        _OPEN,
        _POST_TO_ACCOUNT,
        _POST_TO_SLOT,
        _POST,
        *FUNCTIONS,
        f"CREATE OR REPLACE VIEW balances AS {_VIEW}",
        *(
            trigger(
                "append_only", "BEFORE UPDATE OR DELETE OR TRUNCATE", table,
                "FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()",
            )
            for table in APPEND_ONLY
        ),
        trigger("post", "AFTER INSERT", "transfers", "FOR EACH ROW EXECUTE FUNCTION post_transfer()"),
        trigger("by_transfer", "BEFORE INSERT", "entries", by_hand),
        trigger("by_transfer", "BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE", "account_slots", by_hand),
        trigger("by_transfer", "BEFORE UPDATE OR DELETE OR TRUNCATE", "accounts", by_hand),
        trigger(
            "from_zero", "BEFORE INSERT", "accounts",
            "FOR EACH ROW WHEN (NEW.balance <> 0) EXECUTE FUNCTION refuse_hand()",
        ),
    )  # fmt: skip


_SQLITE_POST = """
CREATE TRIGGER IF NOT EXISTS transfers_post AFTER INSERT ON transfers BEGIN
  SELECT RAISE(ABORT, 'transfer does not balance')
    WHERE (SELECT COUNT(*) < 2 OR SUM(@AMOUNT) <> 0 OR MAX(typeof(@AMOUNT) <> 'integer') FROM @MOVES);
  INSERT INTO accounts (id, kind, owner_id, balance, last_entry)
    SELECT @ACCOUNT, @KIND, CASE WHEN @KIND IN (@PERSONAL) THEN @OWNER END, 0, 0
    FROM @MOVES WHERE NOT EXISTS (SELECT 1 FROM accounts WHERE id = @ACCOUNT);
  INSERT INTO entries (transfer_id, account_id, amount) SELECT NEW.id, @ACCOUNT, @AMOUNT FROM @MOVES;
  SELECT RAISE(ABORT, 'transfer has not made its entries')
    WHERE (SELECT COUNT(*) FROM entries WHERE transfer_id = NEW.id) <> json_array_length(NEW.moves);
END
"""

_SQLITE_ENTRY = """
CREATE TRIGGER IF NOT EXISTS entries_post AFTER INSERT ON entries BEGIN
  UPDATE accounts SET balance = balance + NEW.amount, last_entry = NEW.rowid WHERE id = NEW.account_id;
  SELECT RAISE(ABORT, 'entry has not changed its balance')
    WHERE NOT EXISTS (SELECT 1 FROM accounts WHERE id = NEW.account_id AND last_entry = NEW.rowid);
END
"""

_NOT_OF_A_TRANSFER = """
NOT EXISTS (SELECT 1 FROM transfers t, json_each(t.moves)
  WHERE t.id = NEW.transfer_id AND @ACCOUNT = NEW.account_id AND @AMOUNT = NEW.amount)
OR EXISTS (SELECT 1 FROM entries WHERE transfer_id = NEW.transfer_id AND account_id = NEW.account_id)
"""

_THERE_ALREADY = """
EXISTS (SELECT 1 FROM transfers WHERE id = NEW.id)
OR EXISTS (SELECT 1 FROM transfers WHERE idempotency_key = NEW.idempotency_key)
OR EXISTS (SELECT 1 FROM transfers WHERE reverses = NEW.reverses)
"""

_NOT_OF_AN_ENTRY = """
NEW.last_entry <= OLD.last_entry OR NEW.id <> OLD.id OR NEW.kind <> OLD.kind OR NEW.owner_id IS NOT OLD.owner_id
OR NOT EXISTS (SELECT 1 FROM entries
  WHERE rowid = NEW.last_entry AND account_id = NEW.id AND amount = NEW.balance - OLD.balance)
"""


def _sqlite() -> tuple[str, ...]:
    def refuse(name: str, event_: str, table: str, words: str, when: str = "") -> str:
        condition = f"WHEN {when} " if when else ""
        return (
            f"CREATE TRIGGER IF NOT EXISTS {table}_{name} BEFORE {event_} ON {table} {condition}"
            f"BEGIN SELECT RAISE(ABORT, '{table} {words}'); END"
        )

    append_only, by_hand = "is append-only", "changes by transfers alone"
    return (
        f"CREATE VIEW IF NOT EXISTS balances AS {_VIEW}",
        *(
            refuse(f"no_{verb.lower()}", verb, table, append_only)
            for table in APPEND_ONLY
            for verb in ("UPDATE", "DELETE")
        ),
        refuse(
            "once",
            "INSERT",
            "transfers",
            "is append-only: id, idempotency_key or reverses is there already",
            _THERE_ALREADY,
        ),
        _SQLITE_POST,
        refuse("by_transfer", "INSERT", "entries", by_hand, _NOT_OF_A_TRANSFER),
        _SQLITE_ENTRY,
        refuse("by_transfer", "UPDATE", "accounts", by_hand, _NOT_OF_AN_ENTRY),
        refuse(
            "from_zero",
            "INSERT",
            "accounts",
            by_hand,
            "NEW.balance <> 0 OR NEW.last_entry <> 0 OR EXISTS (SELECT 1 FROM accounts WHERE id = NEW.id)",
        ),
        refuse("stay", "DELETE", "accounts", by_hand),
        *(refuse(f"no_{verb.lower()}", verb, "account_slots", by_hand) for verb in ("INSERT", "UPDATE", "DELETE")),
    )


_WORDS = {
    "@STRIPED": _listed(STRIPED),
    "@SLOTS": str(SLOTS),
    "@PERSONAL": _listed(PERSONAL),
    "@MOVES": "json_each(NEW.moves)",
    "@KIND": "substr(@ACCOUNT, 1, instr(@ACCOUNT || ':', ':') - 1)",
    "@OWNER": "substr(@ACCOUNT, instr(@ACCOUNT, ':') + 1)",
    "@ACCOUNT": "json_extract(value, '$[0]')",
    "@AMOUNT": "json_extract(value, '$[1]')",
}


def rules_ddl(dialect: str) -> tuple[str, ...]:
    """The statements that make triggers and view; migrations issue the same ones."""
    return tuple(_in_full(statement) for statement in (_sqlite() if dialect == "sqlite" else _postgresql()))


def _in_full(statement: str) -> str:
    for word, meaning in _WORDS.items():
        statement = statement.replace(word, meaning)
    return statement.strip()


@event.listens_for(Base.metadata, "after_create")
def _make_rules(_metadata: MetaData, connection: Connection, **_options: object) -> None:
    for statement in rules_ddl(connection.dialect.name):
        connection.execute(text(statement))
