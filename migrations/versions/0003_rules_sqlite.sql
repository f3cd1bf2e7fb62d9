CREATE VIEW IF NOT EXISTS balances AS SELECT a.id, a.kind, a.owner_id, a.balance + COALESCE((SELECT SUM(s.balance) FROM account_slots s WHERE s.account_id = a.id), 0) AS balance FROM accounts a
-- next
CREATE TRIGGER IF NOT EXISTS transfers_no_update BEFORE UPDATE ON transfers BEGIN SELECT RAISE(ABORT, 'transfers is append-only'); END
-- next
CREATE TRIGGER IF NOT EXISTS transfers_no_delete BEFORE DELETE ON transfers BEGIN SELECT RAISE(ABORT, 'transfers is append-only'); END
-- next
CREATE TRIGGER IF NOT EXISTS entries_no_update BEFORE UPDATE ON entries BEGIN SELECT RAISE(ABORT, 'entries is append-only'); END
-- next
CREATE TRIGGER IF NOT EXISTS entries_no_delete BEFORE DELETE ON entries BEGIN SELECT RAISE(ABORT, 'entries is append-only'); END
-- next
CREATE TRIGGER IF NOT EXISTS transfers_once BEFORE INSERT ON transfers WHEN 
EXISTS (SELECT 1 FROM transfers WHERE id = NEW.id)
OR EXISTS (SELECT 1 FROM transfers WHERE idempotency_key = NEW.idempotency_key)
OR EXISTS (SELECT 1 FROM transfers WHERE reverses = NEW.reverses)
 BEGIN SELECT RAISE(ABORT, 'transfers is append-only: id, idempotency_key or reverses is there already'); END
-- next
CREATE TRIGGER IF NOT EXISTS transfers_post AFTER INSERT ON transfers BEGIN
  SELECT RAISE(ABORT, 'transfer does not balance')
    WHERE (SELECT COUNT(*) < 2 OR SUM(json_extract(value, '$[1]')) <> 0 OR MAX(typeof(json_extract(value, '$[1]')) <> 'integer') FROM json_each(NEW.moves));
  INSERT INTO accounts (id, kind, owner_id, balance, last_entry)
    SELECT json_extract(value, '$[0]'), substr(json_extract(value, '$[0]'), 1, instr(json_extract(value, '$[0]') || ':', ':') - 1), CASE WHEN substr(json_extract(value, '$[0]'), 1, instr(json_extract(value, '$[0]') || ':', ':') - 1) IN ('wallet', 'held', 'earnings_pending', 'earnings', 'debt') THEN substr(json_extract(value, '$[0]'), instr(json_extract(value, '$[0]'), ':') + 1) END, 0, 0
    FROM json_each(NEW.moves) WHERE NOT EXISTS (SELECT 1 FROM accounts WHERE id = json_extract(value, '$[0]'));
  INSERT INTO entries (transfer_id, account_id, amount) SELECT NEW.id, json_extract(value, '$[0]'), json_extract(value, '$[1]') FROM json_each(NEW.moves);
  SELECT RAISE(ABORT, 'transfer has not made its entries')
    WHERE (SELECT COUNT(*) FROM entries WHERE transfer_id = NEW.id) <> json_array_length(NEW.moves);
END
-- next
CREATE TRIGGER IF NOT EXISTS entries_by_transfer BEFORE INSERT ON entries WHEN 
NOT EXISTS (SELECT 1 FROM transfers t, json_each(t.moves)
  WHERE t.id = NEW.transfer_id AND json_extract(value, '$[0]') = NEW.account_id AND json_extract(value, '$[1]') = NEW.amount)
OR EXISTS (SELECT 1 FROM entries WHERE transfer_id = NEW.transfer_id AND account_id = NEW.account_id)
 BEGIN SELECT RAISE(ABORT, 'entries changes by transfers alone'); END
-- next
CREATE TRIGGER IF NOT EXISTS entries_post AFTER INSERT ON entries BEGIN
  UPDATE accounts SET balance = balance + NEW.amount, last_entry = NEW.rowid WHERE id = NEW.account_id;
  SELECT RAISE(ABORT, 'entry has not changed its balance')
    WHERE NOT EXISTS (SELECT 1 FROM accounts WHERE id = NEW.account_id AND last_entry = NEW.rowid);
END
-- next
CREATE TRIGGER IF NOT EXISTS accounts_by_transfer BEFORE UPDATE ON accounts WHEN 
NEW.last_entry <= OLD.last_entry OR NEW.id <> OLD.id OR NEW.kind <> OLD.kind OR NEW.owner_id IS NOT OLD.owner_id
OR NOT EXISTS (SELECT 1 FROM entries
  WHERE rowid = NEW.last_entry AND account_id = NEW.id AND amount = NEW.balance - OLD.balance)
 BEGIN SELECT RAISE(ABORT, 'accounts changes by transfers alone'); END
-- next
CREATE TRIGGER IF NOT EXISTS accounts_from_zero BEFORE INSERT ON accounts WHEN NEW.balance <> 0 OR NEW.last_entry <> 0 OR EXISTS (SELECT 1 FROM accounts WHERE id = NEW.id) BEGIN SELECT RAISE(ABORT, 'accounts changes by transfers alone'); END
-- next
CREATE TRIGGER IF NOT EXISTS accounts_stay BEFORE DELETE ON accounts BEGIN SELECT RAISE(ABORT, 'accounts changes by transfers alone'); END
-- next
CREATE TRIGGER IF NOT EXISTS account_slots_no_insert BEFORE INSERT ON account_slots BEGIN SELECT RAISE(ABORT, 'account_slots changes by transfers alone'); END
-- next
CREATE TRIGGER IF NOT EXISTS account_slots_no_update BEFORE UPDATE ON account_slots BEGIN SELECT RAISE(ABORT, 'account_slots changes by transfers alone'); END
-- next
CREATE TRIGGER IF NOT EXISTS account_slots_no_delete BEFORE DELETE ON account_slots BEGIN SELECT RAISE(ABORT, 'account_slots changes by transfers alone'); END
-- next
CREATE TRIGGER IF NOT EXISTS receipt_keys_no_update BEFORE UPDATE ON receipt_keys BEGIN SELECT RAISE(ABORT, 'receipt_keys is append-only'); END
-- next
CREATE TRIGGER IF NOT EXISTS receipt_keys_no_delete BEFORE DELETE ON receipt_keys BEGIN SELECT RAISE(ABORT, 'receipt_keys is append-only'); END
-- next
CREATE TRIGGER IF NOT EXISTS receipts_no_update BEFORE UPDATE ON receipts BEGIN SELECT RAISE(ABORT, 'receipts is append-only'); END
-- next
CREATE TRIGGER IF NOT EXISTS receipts_no_delete BEFORE DELETE ON receipts BEGIN SELECT RAISE(ABORT, 'receipts is append-only'); END
-- next
CREATE TRIGGER IF NOT EXISTS admin_acts_no_update BEFORE UPDATE ON admin_acts BEGIN SELECT RAISE(ABORT, 'admin_acts is append-only'); END
-- next
CREATE TRIGGER IF NOT EXISTS admin_acts_no_delete BEFORE DELETE ON admin_acts BEGIN SELECT RAISE(ABORT, 'admin_acts is append-only'); END
