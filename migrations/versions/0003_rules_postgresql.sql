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
-- next
CREATE OR REPLACE FUNCTION post_to_slot(account text, tokens bigint) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  UPDATE account_slots SET balance = balance + tokens
    WHERE account_id = account AND slot = pg_backend_pid() % 64;
  IF NOT FOUND THEN
    PERFORM open_account(account, split_part(account, ':', 1));
    INSERT INTO account_slots AS mine (account_id, slot, balance)
      VALUES (account, pg_backend_pid() % 64, tokens)
      ON CONFLICT (account_id, slot) DO UPDATE SET balance = mine.balance + EXCLUDED.balance;
  END IF;
END $$
-- next
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
    IF what IN ('earnings_pending', 'fees', 'gateway', 'payouts', 'promo') AND (moved.amount > 0 OR what <> 'earnings_pending') THEN
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
      WHERE slot = pg_backend_pid() % 64 AND account_id IN (shared[1], shared[2]) RETURNING account_id AS id
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
-- next
CREATE OR REPLACE FUNCTION to_spend(wanted text, key text, wallet text,
  wish bigint, transfer text, cause text, at timestamptz)
RETURNS TABLE (done boolean, available bigint, is_frozen_at timestamptz, cap integer,
  its_fan text, its_status text, is_held bigint, first_id text, first_kind text, first_reference text, first_at timestamptz, first_moves jsonb, lot text, is_bad boolean, is_free bigint, is_used bigint) LANGUAGE plpgsql ROWS 1 AS $$
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
  SELECT id, kind, reference, created_at, moves INTO
    first_id, first_kind, first_reference, first_at, first_moves FROM transfers WHERE idempotency_key = key;
  FOR lot, is_bad, is_free IN SELECT id, bad_at IS NOT NULL, free FROM token_lots
    WHERE owner_id = who AND free > 0 ORDER BY bad_at IS NOT NULL, created_at, id
  LOOP
    IF wish <= is_free AND wish <= available AND NOT is_bad AND its_fan IS NULL AND first_id IS NULL
      AND is_frozen_at IS NULL AND cap IS NULL
    THEN
      INSERT INTO holds (reference, fan_id, status, amount, earnings, commission, recovered, refunded, fee_back, pending, promo, created_at) VALUES (wanted, who, 'open', wish, 0, 0, 0, 0, 0, 0, 0, at);
      UPDATE token_lots SET free = free + -wish WHERE id = lot AND free = is_free AND (bad_at IS NOT NULL) = false; IF NOT FOUND THEN PERFORM refuse_stale(); END IF;
      INSERT INTO lot_uses (reference, lot_id, held, spent, recovered) VALUES (wanted, lot, wish, 0, 0);
      plain_moves := jsonb_build_array(jsonb_build_array('wallet:' || who, -wish),
        jsonb_build_array('held:' || who, wish));
      INSERT INTO transfers (id, kind, idempotency_key, reference, reverses, lot_id, cause_id, moves, created_at) VALUES (transfer, 'hold', key, wanted, NULL, NULL, cause, plain_moves, at);
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
-- next
CREATE OR REPLACE FUNCTION to_settle(key text, wanted text,
  payee text, earned bigint, fee bigint, transfer text, cause text, at timestamptz, clears timestamptz)
RETURNS TABLE (done boolean, its_fan text, its_status text, is_held bigint, has_bad_lots boolean,
  first_id text, first_kind text, first_reference text, first_at timestamptz, first_moves jsonb, lot text, is_bad boolean, is_free bigint, is_used bigint) LANGUAGE plpgsql ROWS 1 AS $$
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
  SELECT id, kind, reference, created_at, moves INTO
    first_id, first_kind, first_reference, first_at, first_moves FROM transfers WHERE idempotency_key = key;
  back := is_held - earned - fee;
  FOR lot, is_bad, is_free, is_used IN SELECT l.id, l.bad_at IS NOT NULL, l.free, u.held
    FROM lot_uses u JOIN token_lots l ON l.id = u.lot_id
    WHERE u.reference = wanted ORDER BY l.bad_at IS NOT NULL, l.created_at, l.id
  LOOP
    IF earned > 0 AND fee > 0 AND back >= 0 AND is_used = is_held AND its_status = 'open' AND first_id IS NULL
      AND NOT has_bad_lots
    THEN
      UPDATE holds SET status = 'settled', amount = 0, creator_id = payee, earnings = earned, commission = fee, pending = earned, closed_at = at, clears_at = clears WHERE reference = wanted AND amount = is_held AND status = 'open'; IF NOT FOUND THEN PERFORM refuse_stale(); END IF;
      plain_moves := jsonb_build_array(jsonb_build_array('held:' || its_fan, -is_held),
        jsonb_build_array('earnings_pending:' || payee, earned), jsonb_build_array('fees', fee));
      IF back > 0 THEN
        UPDATE lot_uses SET held = held + -is_held, spent = spent + earned + fee WHERE reference = wanted AND lot_id = lot AND held = is_held; IF NOT FOUND THEN PERFORM refuse_stale(); END IF;
        UPDATE token_lots SET free = free + back WHERE id = lot AND free = is_free AND (bad_at IS NOT NULL) = false; IF NOT FOUND THEN PERFORM refuse_stale(); END IF;
        plain_moves := jsonb_build_array(jsonb_build_array('wallet:' || its_fan, back)) || plain_moves;
      ELSE
        UPDATE lot_uses SET held = 0, spent = spent + held WHERE reference = wanted AND lot_id = lot AND held = is_held AND EXISTS (SELECT 1 FROM token_lots l WHERE l.id = lot_id AND (l.bad_at IS NOT NULL) = false); IF NOT FOUND THEN PERFORM refuse_stale(); END IF;
      END IF;
      INSERT INTO transfers (id, kind, idempotency_key, reference, reverses, lot_id, cause_id, moves, created_at) VALUES (transfer, 'settle', key, wanted, NULL, NULL, cause, plain_moves, at);
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
