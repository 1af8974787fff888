-- Purpose: where the mails of each (egress, provider) stand, with the pacer's rate and when the next deferred one is due.
-- Parameters: none. Reads the ledger: sqlite3 -readonly ledger.db, or psql; changes nothing.
-- Columns: egress, provider, state, fate ('' unless accepted), mails, next_due, rate (mails per second), ceiling, paused (0/1),
--   parked (the rule, '' if none), cooldown_until.
SELECT
  d.egress,
  d.provider,
  d.state,
  d.fate,
  count(*) AS mails,
  min(CASE WHEN d.state = 'deferred' THEN d.due_at END) AS next_due,
  r.rate,
  r.ceiling,
  r.paused,
  r.parked,
  r.cooldown_until
FROM delivery AS d
LEFT JOIN provider_rate AS r ON r.egress = d.egress AND r.provider = d.provider
GROUP BY d.egress, d.provider, d.state, d.fate, r.rate, r.ceiling, r.paused, r.parked, r.cooldown_until
ORDER BY d.egress, d.provider, d.state, d.fate;
