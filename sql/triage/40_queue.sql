-- Purpose: queued mail by receiving system and age.
-- Parameters: until_us (the newest event), queue_lifetime, microseconds. Reads queued (sql/triage/30_queued),
--   provider_of_queued(relay, relay_ip, domain, provider).
-- Columns: provider, mails, held, untried, to_1h, to_6h, to_24h, older (mails by age), oldest_at, expires_at (when the oldest
--   that is not on hold expires; NULL: all are on hold).
SELECT
  p.provider,
  count(*) AS mails,
  sum(q.held) AS held,
  sum(1 - q.tried) AS untried,
  sum(CASE WHEN params.until_us - q.arrived_at < 3600000000 THEN 1 ELSE 0 END) AS to_1h,
  sum(CASE WHEN params.until_us - q.arrived_at BETWEEN 3600000000 AND 21599999999 THEN 1 ELSE 0 END) AS to_6h,
  sum(CASE WHEN params.until_us - q.arrived_at BETWEEN 21600000000 AND 86399999999 THEN 1 ELSE 0 END) AS to_24h,
  sum(CASE WHEN params.until_us - q.arrived_at >= 86400000000 THEN 1 ELSE 0 END) AS older,
  min(q.arrived_at) AS oldest_at,
  min(CASE WHEN q.held = 0 THEN q.arrived_at + params.queue_lifetime END) AS expires_at
FROM queued AS q
CROSS JOIN params
JOIN provider_of_queued AS p ON p.relay = q.relay AND p.relay_ip = q.relay_ip AND p.domain = q.domain
GROUP BY p.provider
ORDER BY mails DESC, p.provider
