-- Purpose: mails of which nobody knows whether the receiver has them, with what tells them in a log, oldest arm first.
-- Parameters: none. Reads the ledger: sqlite3 -readonly ledger.db, or psql; changes nothing.
-- Columns: key, plan_id, egress, provider, release, rcpt, message_id, try_id, worker, armed_at, stage, reply, released (times
--   let out of doubt before).
SELECT
  d.key,
  d.plan_id,
  d.egress,
  d.provider,
  d.release,
  d.rcpt,
  d.message_id,
  d.try_id,
  t.worker,
  t.armed_at,
  t.stage,
  t.reply,
  d.released
FROM delivery AS d
INNER JOIN try AS t ON t.id = d.try_id
WHERE d.state = 'in_doubt'
ORDER BY t.armed_at, d.key;
