-- Purpose: mails of the selection whose fate no line of the evidence tells: the log was lost around them, or ends too early.
-- Parameters: from_us, to_us BIGINT (arrival; NULL unbounded), provider, release, customer VARCHAR ('' all). Reads suspect,
--   provider_of, link, release.
-- Columns: no_evidence.
SELECT count(*) AS no_evidence
FROM suspect AS s
CROSS JOIN params
JOIN provider_of AS p ON p.relay = s.relay AND p.relay_ip = s.relay_ip AND p.domain = s.domain
JOIN link AS l ON l.outcome_id = s.outcome_id
LEFT JOIN release AS r ON r.id = l.release
WHERE s.status = 'no_evidence'
  AND l.rule <> '00_own_try'
  AND (params.provider = '' OR p.provider = params.provider)
  AND (params.release = '' OR l.release = params.release)
  AND (params.customer = '' OR r.customer = params.customer)
  AND (params.from_us IS NULL OR coalesce(s.arrived_at, s.first_failed_at) >= params.from_us)
  AND (params.to_us IS NULL OR coalesce(s.arrived_at, s.first_failed_at) < params.to_us)
