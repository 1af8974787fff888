-- Purpose: who holds which batch, until when, and how many of its mails are still unsent or under way.
-- Parameters: none. Reads the ledger: sqlite3 -readonly ledger.db, or psql; changes nothing.
-- Columns: batch_id, plan_id, egress, provider, epoch, owner, lease_until, leased, under_way.
SELECT
  b.id AS batch_id,
  b.plan_id,
  b.egress,
  b.provider,
  b.epoch,
  b.owner,
  b.lease_until,
  sum(CASE WHEN d.state = 'leased' THEN 1 ELSE 0 END) AS leased,
  sum(CASE WHEN d.state = 'sending' THEN 1 ELSE 0 END) AS under_way
FROM batch AS b
LEFT JOIN delivery AS d ON d.batch_id = b.id
WHERE b.state = 'leased'
GROUP BY b.id, b.plan_id, b.egress, b.provider, b.epoch, b.owner, b.lease_until
ORDER BY b.egress, b.provider, b.id;
