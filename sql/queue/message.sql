-- Purpose: where mail of an incident waits, as its mail host knows it: queue id, arrival there, sender, recipient. The arrival
--   is that of the last queue id: from its delivery lines (their delay counts from it), else the newest queue snapshot, else
--   the line with which it began. A mail of which an alias made several under one address cannot be told apart: no row.
-- Parameters: none. Reads wanted(outcome_id), affected (an incident's mails), events, snapshot.
-- Columns: outcome_id, host, qid, arrived_us, sender, mailbox.
WITH waiting AS (
  SELECT a.outcome_id, a.last_host AS host, a.last_qid AS qid, a.recipient, a.domain, a.sender, a.arrived_at, a.at
  FROM affected AS a
  JOIN wanted ON wanted.outcome_id = a.outcome_id
  WHERE a.last_host <> '' AND a.last_qid <> ''
),
tried AS (
  SELECT
    w.outcome_id,
    min(events.recipient) AS mailbox,
    max(events.recipient) AS other,
    max(events.at_us - events.delay) AS arrived_us
  FROM waiting AS w
  JOIN events ON events.host = w.host AND events.qid = w.qid
  WHERE events.kind = 'attempt'
    AND events.delay IS NOT NULL
    AND events.at_us - events.delay >= w.arrived_at - 60000000
    AND events.at_us <= w.at + 60000000
    AND lower(w.recipient) IN (lower(events.recipient), lower(events.orig_to))
    AND lower(split_part(events.recipient, '@', -1)) = w.domain
  GROUP BY w.outcome_id
),
shown AS (
  SELECT w.outcome_id, min(s.recipient) AS mailbox, max(s.recipient) AS other, max(s.arrival) AS arrived_us
  FROM waiting AS w
  JOIN snapshot AS s ON s.qid = w.qid AND s.host IN (w.host, '') AND lower(s.recipient) = lower(w.recipient)
  WHERE s.arrival BETWEEN w.arrived_at - 60000000 AND w.at + 60000000
  GROUP BY w.outcome_id
),
entered AS (
  SELECT
    w.outcome_id,
    max(CASE WHEN events.kind IN ('begin', 'message') THEN events.at_us END) AS arrived_us,
    max(CASE WHEN events.kind = 'queued' THEN events.sender END) AS sender
  FROM waiting AS w
  JOIN events ON events.host = w.host AND events.qid = w.qid
  WHERE events.kind IN ('begin', 'message', 'queued')
    AND events.at_us BETWEEN w.arrived_at - 60000000 AND w.at + 60000000
  GROUP BY w.outcome_id
)
SELECT
  w.outcome_id,
  w.host,
  w.qid,
  coalesce(t.arrived_us, s.arrived_us, e.arrived_us) AS arrived_us,
  coalesce(e.sender, w.sender) AS sender,
  coalesce(t.mailbox, s.mailbox, w.recipient) AS mailbox
FROM waiting AS w
LEFT JOIN tried AS t ON t.outcome_id = w.outcome_id
LEFT JOIN shown AS s ON s.outcome_id = w.outcome_id
LEFT JOIN entered AS e ON e.outcome_id = w.outcome_id
WHERE coalesce(t.arrived_us, s.arrived_us, e.arrived_us) IS NOT NULL
  AND coalesce(t.mailbox, s.mailbox, '') = coalesce(t.other, s.other, '')
ORDER BY w.host, w.qid, w.outcome_id
