-- Purpose: every decision with its reason, newest first: by whom, about what.
-- Parameters: none. Reads the ledger: sqlite3 -readonly ledger.db, or psql; changes nothing.
-- Columns: at, who, what, plan_id, egress, provider, subject, value, reason.
SELECT
  at,
  who,
  what,
  plan_id,
  egress,
  provider,
  subject,
  value,
  reason
FROM audit
ORDER BY id DESC;
