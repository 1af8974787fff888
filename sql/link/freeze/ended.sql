-- Purpose: frozen mails that were queued when the incident was opened, and of which the evidence of today says that they
--   bounced or expired: the same message-id and address, or the same queue id and arrival where no message-id was logged.
--   One that arrived or still waits, in whatever copy, has not ended; nor does a last word from before the frozen one count.
-- Parameters: none. Reads frozen, suspect (linker/outcomes of today), later(message_id, recipient, host, qid, arrived_at,
--   status: the frozen mails of incidents that were opened since).
-- Columns: outcome_id (of frozen), today (outcome_id of suspect), status, taken (0/1: a later incident has it as ended).
WITH told AS (
  SELECT
    f.outcome_id,
    f.at AS frozen_at,
    s.outcome_id AS today,
    s.status,
    s.at,
    row_number() OVER (
      PARTITION BY f.outcome_id
      ORDER BY
        CASE WHEN s.status IN ('delivered', 'delivered_late', 'still_queued') THEN 0 ELSE 1 END,
        s.at DESC NULLS LAST,
        s.outcome_id
    ) AS place
  FROM frozen AS f
  JOIN suspect AS s
    ON lower(s.recipient) = lower(f.recipient)
    AND s.message_id = f.message_id
    AND (f.message_id NOT IN ('', '<>') OR (s.host = f.host AND s.qid = f.qid AND s.arrived_at = f.arrived_at))
  WHERE f.status = 'still_queued'
),
known AS (
  SELECT DISTINCT f.outcome_id
  FROM frozen AS f
  JOIN later AS l
    ON lower(l.recipient) = lower(f.recipient)
    AND l.message_id = f.message_id
    AND (f.message_id NOT IN ('', '<>') OR (l.host = f.host AND l.qid = f.qid AND l.arrived_at = f.arrived_at))
  WHERE f.status = 'still_queued' AND l.status <> 'still_queued'
)
SELECT t.outcome_id, t.today, t.status, CASE WHEN k.outcome_id IS NULL THEN 0 ELSE 1 END AS taken
FROM told AS t
LEFT JOIN known AS k ON k.outcome_id = t.outcome_id
WHERE t.place = 1
  AND t.status IN ('bounced', 'expired')
  AND (t.at >= t.frozen_at OR t.at IS NULL OR t.frozen_at IS NULL)
