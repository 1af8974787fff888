-- Purpose: where each plan stands: how many of its mails are in which state. The states of a started plan add up to total.
-- Parameters: none. Reads the ledger: sqlite3 -readonly ledger.db, or psql; changes nothing.
-- Columns: plan_id, incident_id, plan_state, total, to_send, under_way, accepted, deferred, in_doubt, failed, removed.
SELECT
  p.id AS plan_id,
  p.incident_id,
  p.state AS plan_state,
  p.total,
  sum(CASE WHEN d.state IN ('planned', 'leased') THEN 1 ELSE 0 END) AS to_send,
  sum(CASE WHEN d.state = 'sending' THEN 1 ELSE 0 END) AS under_way,
  sum(CASE WHEN d.state = 'accepted' THEN 1 ELSE 0 END) AS accepted,
  sum(CASE WHEN d.state = 'deferred' THEN 1 ELSE 0 END) AS deferred,
  sum(CASE WHEN d.state = 'in_doubt' THEN 1 ELSE 0 END) AS in_doubt,
  sum(CASE WHEN d.state IN ('rejected', 'gave_up', 'quarantined') THEN 1 ELSE 0 END) AS failed,
  sum(CASE WHEN d.state IN ('suppressed', 'held', 'closed') THEN 1 ELSE 0 END) AS removed
FROM plan AS p
LEFT JOIN delivery AS d ON d.plan_id = p.id
GROUP BY p.id, p.incident_id, p.state, p.total, p.made_at
ORDER BY p.made_at, p.id;
