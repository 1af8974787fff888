-- Purpose: attempts by receiving system and hour back from the end of the evidence; the last quarter of an hour beside it.
-- Parameters: none. Reads recent (sql/triage/10_attempt), provider_of_recent(relay, relay_ip, domain, provider).
-- Columns: provider, hour (0: the last 60 minutes), tries, failed, fresh_tries, fresh_failed (see 10_attempt), quarter_tries,
--   quarter_failed, quarter_fresh_tries, quarter_fresh_failed (of the last 15 minutes; 0 in older hours), last_failed_at,
--   last_sent_at.
SELECT
  p.provider,
  CAST((r.slot - r.slot % 4) / 4 AS BIGINT) AS hour,
  sum(r.tries) AS tries,
  sum(r.deferred + r.refused) AS failed,
  sum(r.fresh_tries) AS fresh_tries,
  sum(r.fresh_failed) AS fresh_failed,
  sum(CASE WHEN r.slot = 0 THEN r.tries ELSE 0 END) AS quarter_tries,
  sum(CASE WHEN r.slot = 0 THEN r.deferred + r.refused ELSE 0 END) AS quarter_failed,
  sum(CASE WHEN r.slot = 0 THEN r.fresh_tries ELSE 0 END) AS quarter_fresh_tries,
  sum(CASE WHEN r.slot = 0 THEN r.fresh_failed ELSE 0 END) AS quarter_fresh_failed,
  max(r.last_failed_at) AS last_failed_at,
  max(r.last_sent_at) AS last_sent_at
FROM recent AS r
JOIN provider_of_recent AS p ON p.relay = r.relay AND p.relay_ip = r.relay_ip AND p.domain = r.domain
GROUP BY p.provider, CAST((r.slot - r.slot % 4) / 4 AS BIGINT)
ORDER BY p.provider, hour
