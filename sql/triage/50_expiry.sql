-- Purpose: how much queued mail expires by which hour: the mail host gives up what is older than its queue lifetime. Mail on
--   hold does not expire.
-- Parameters: queue_lifetime, microseconds. Reads queued (sql/triage/30_queued), provider_of_queued(relay, relay_ip, domain,
--   provider).
-- Columns: before_us (end of the hour, microseconds UTC), provider, mails.
WITH ending AS (
  SELECT p.provider, q.arrived_at + params.queue_lifetime AS at_us
  FROM queued AS q
  CROSS JOIN params
  JOIN provider_of_queued AS p ON p.relay = q.relay AND p.relay_ip = q.relay_ip AND p.domain = q.domain
  WHERE q.held = 0
)
SELECT at_us - at_us % 3600000000 + 3600000000 AS before_us, provider, count(*) AS mails
FROM ending
GROUP BY at_us - at_us % 3600000000 + 3600000000, provider
ORDER BY before_us, mails DESC, provider
