CREATE OR REPLACE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION '% is append-only', TG_TABLE_NAME; END $$
-- next
CREATE OR REPLACE FUNCTION refuse_hand() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION '% changes by transfers alone', TG_TABLE_NAME; END $$
-- next
CREATE OR REPLACE FUNCTION refuse_stale() RETURNS integer LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION 'a row was not as it was read' USING ERRCODE = 'serialization_failure'; END $$
-- next
CREATE OR REPLACE FUNCTION open_account(account text, what text) RETURNS void LANGUAGE sql AS $$
  INSERT INTO accounts (id, kind, owner_id, balance, last_entry)
  VALUES (account, what, CASE WHEN what IN ('wallet', 'held', 'earnings_pending', 'earnings', 'debt') THEN split_part(account, ':', 2) END, 0, 0)
  ON CONFLICT DO NOTHING
$$
-- next
CREATE OR REPLACE FUNCTION post_transfer() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
  moved record;
  what text;
  total numeric := 0;
  pieces integer := 0;
  folded numeric;
BEGIN
  FOR moved IN SELECT move->>0 AS account, (move->>1)::bigint AS amount FROM jsonb_array_elements(NEW.moves) move
  LOOP
    total := total + moved.amount;
    pieces := pieces + 1;
    what := split_part(moved.account, ':', 1);
    IF what IN ('earnings_pending', 'fees', 'gateway', 'payouts', 'promo') AND (moved.amount > 0 OR what <> 'earnings_pending') THEN
      UPDATE account_slots SET balance = balance + moved.amount
        WHERE account_id = moved.account AND slot = pg_backend_pid() % 16;
      CONTINUE WHEN FOUND;
      PERFORM open_account(moved.account, what);
      INSERT INTO account_slots AS mine (account_id, slot, balance)
        VALUES (moved.account, pg_backend_pid() % 16, moved.amount)
        ON CONFLICT (account_id, slot) DO UPDATE SET balance = mine.balance + EXCLUDED.balance;
      CONTINUE;
    END IF;
    folded := 0;
    IF what = 'earnings_pending' THEN
      PERFORM 1 FROM accounts WHERE id = moved.account FOR NO KEY UPDATE;
      PERFORM 1 FROM account_slots WHERE account_id = moved.account ORDER BY slot FOR NO KEY UPDATE;
      SELECT COALESCE(SUM(balance), 0) INTO folded FROM account_slots WHERE account_id = moved.account;
      UPDATE account_slots SET balance = 0 WHERE account_id = moved.account AND balance <> 0;
    END IF;
    UPDATE accounts SET balance = balance + moved.amount + folded WHERE id = moved.account;
    CONTINUE WHEN FOUND;
    PERFORM open_account(moved.account, what);
    UPDATE accounts SET balance = balance + moved.amount WHERE id = moved.account;
  END LOOP;
  IF total <> 0 OR pieces < 2 THEN
    RAISE EXCEPTION 'transfer % does not balance', NEW.id USING ERRCODE = 'check_violation';
  END IF;
  INSERT INTO entries (transfer_id, account_id, amount)
    SELECT NEW.id, move->>0, (move->>1)::bigint FROM jsonb_array_elements(NEW.moves) move;
  RETURN NULL;
END $$
-- next
CREATE OR REPLACE VIEW balances AS SELECT a.id, a.kind, a.owner_id, a.balance + COALESCE((SELECT SUM(s.balance) FROM account_slots s WHERE s.account_id = a.id), 0) AS balance FROM accounts a
-- next
CREATE OR REPLACE TRIGGER transfers_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON transfers FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()
-- next
CREATE OR REPLACE TRIGGER entries_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON entries FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()
-- next
CREATE OR REPLACE TRIGGER transfers_post AFTER INSERT ON transfers FOR EACH ROW EXECUTE FUNCTION post_transfer()
-- next
CREATE OR REPLACE TRIGGER entries_by_transfer BEFORE INSERT ON entries FOR EACH STATEMENT WHEN (pg_trigger_depth() = 0) EXECUTE FUNCTION refuse_hand()
-- next
CREATE OR REPLACE TRIGGER account_slots_by_transfer BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON account_slots FOR EACH STATEMENT WHEN (pg_trigger_depth() = 0) EXECUTE FUNCTION refuse_hand()
-- next
CREATE OR REPLACE TRIGGER accounts_by_transfer BEFORE UPDATE OR DELETE OR TRUNCATE ON accounts FOR EACH STATEMENT WHEN (pg_trigger_depth() = 0) EXECUTE FUNCTION refuse_hand()
-- next
CREATE OR REPLACE TRIGGER accounts_from_zero BEFORE INSERT ON accounts FOR EACH ROW WHEN (NEW.balance <> 0) EXECUTE FUNCTION refuse_hand()
-- next
CREATE OR REPLACE FUNCTION refuse_receipt_change() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION '% is append-only', TG_TABLE_NAME; END $$
-- next
CREATE OR REPLACE TRIGGER receipt_keys_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON receipt_keys FOR EACH STATEMENT EXECUTE FUNCTION refuse_receipt_change()
-- next
CREATE OR REPLACE TRIGGER receipts_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON receipts FOR EACH STATEMENT EXECUTE FUNCTION refuse_receipt_change()
-- next
CREATE OR REPLACE FUNCTION refuse_act_change() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'admin_acts is append-only'; END $$
-- next
CREATE OR REPLACE TRIGGER admin_acts_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON admin_acts FOR EACH STATEMENT EXECUTE FUNCTION refuse_act_change()
