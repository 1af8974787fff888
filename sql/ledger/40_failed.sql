-- Purpose: what a resend could not deliver: refused, given up, returned by the relay, quarantined; by provider and cause.
-- Parameters: none. Reads the ledger: sqlite3 -readonly ledger.db, or psql; changes nothing.
-- Columns: provider, state, fate, cause, code, reply (one of them), mails.
SELECT
  provider,
  state,
  fate,
  cause,
  code,
  min(CASE WHEN fate = 'returned' THEN fate_reply ELSE reply END) AS reply,
  count(*) AS mails
FROM delivery
WHERE state IN ('rejected', 'gave_up', 'quarantined') OR fate = 'returned'
GROUP BY provider, state, fate, cause, code
ORDER BY mails DESC, provider, state, fate, cause, code;
