-- Purpose: mail that is still queued on our hosts, as far as the evidence tells: what was deferred and has no last word, and
--   what the newest queue snapshot has beside that (never tried, or on hold).
-- Parameters: until_us (the newest event), microseconds UTC. Reads suspect (sql/outcome/90_suspect), snapshot, events,
--   recent (sql/triage/10_attempt).
-- Columns: host, qid, domain, relay, relay_ip (of the last failure, else where most mail of the domain goes), arrived_at,
--   held (0/1: on hold, where a snapshot says so), tried (0/1).
WITH shot AS (
  SELECT host, qid, lower(recipient) AS recipient, arrival, taken_at, CASE WHEN queue_name = 'hold' THEN 1 ELSE 0 END AS held
  FROM snapshot
  CROSS JOIN params
  WHERE qid <> '' AND taken_at + 86400000000 > params.until_us
),
waiting AS (
  SELECT
    s.outcome_id,
    max(s.last_host) AS host,
    max(s.last_qid) AS qid,
    max(s.domain) AS domain,
    max(s.relay) AS relay,
    max(s.relay_ip) AS relay_ip,
    max(s.arrived_at) AS arrived_at,
    max(coalesce(shot.held, 0)) AS held
  FROM suspect AS s
  LEFT JOIN shot
    ON shot.qid = s.last_qid AND shot.host IN (s.last_host, '')
    AND shot.recipient IN (lower(s.recipient), lower(s.mailbox))
  WHERE s.status = 'still_queued'
  GROUP BY s.outcome_id
),
judged AS (
  SELECT DISTINCT last_qid AS qid, lower(mailbox) AS recipient FROM suspect
  UNION
  SELECT DISTINCT last_qid AS qid, lower(recipient) AS recipient FROM suspect
),
ended AS (
  SELECT DISTINCT shot.host, shot.qid, shot.recipient
  FROM shot
  JOIN events ON events.qid = shot.qid AND (events.host = shot.host OR shot.host = '')
  WHERE (
      events.kind = 'attempt' AND events.status IN ('sent', 'bounced', 'expired') AND lower(events.recipient) = shot.recipient
      AND events.at_us > shot.arrival
    )
    OR (events.kind = 'removed' AND events.at_us > shot.taken_at)
),
beside AS (
  SELECT shot.host, shot.qid, split_part(shot.recipient, '@', -1) AS domain, shot.arrival AS arrived_at, shot.held
  FROM shot
  LEFT JOIN judged ON judged.qid = shot.qid AND judged.recipient = shot.recipient
  LEFT JOIN ended ON ended.host = shot.host AND ended.qid = shot.qid AND ended.recipient = shot.recipient
  WHERE judged.qid IS NULL AND ended.qid IS NULL
),
ranked AS (
  SELECT
    domain,
    relay,
    relay_ip,
    row_number() OVER (
      PARTITION BY domain
      ORDER BY sum(tries) DESC NULLS LAST, relay ASC NULLS LAST, relay_ip ASC NULLS LAST
    ) AS place
  FROM recent
  WHERE relay_ip <> ''
  GROUP BY domain, relay, relay_ip
)
SELECT host, qid, domain, relay, relay_ip, arrived_at, held, 1 AS tried FROM waiting
UNION ALL
SELECT
  beside.host,
  beside.qid,
  beside.domain,
  coalesce(ranked.relay, '') AS relay,
  coalesce(ranked.relay_ip, '') AS relay_ip,
  beside.arrived_at,
  beside.held,
  0 AS tried
FROM beside
LEFT JOIN ranked ON ranked.domain = beside.domain AND ranked.place = 1
