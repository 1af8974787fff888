-- Purpose: what is known of each message in a queue: one row for a life of a queue id. Any of its lines may tell the
--   message-id or the sender: in exports and bounces each record does. A bounce mail of ours (`notice`) has no sender and
--   did not come in from anywhere, or another life's notification names it. So are those to the postmaster, which double
--   bounces and smtpd's reports go to: their sender is double-bounce@.
-- Parameters: header VARCHAR (lower case; the logged header that counts before others). Reads life.
-- Columns: life, host, instance, qid, epoch, arrived_at, message_id, sender, queued (0/1: the sender is known), header,
--   subject (the logged header of that name), origin (queue id that it came from, '' none), requeued (0/1), notice (0/1), expired_at, removed_at, deleted (0/1: by
--   postsuper), last_at.
WITH summed AS (
  SELECT
    host,
    instance,
    qid,
    epoch,
    min(CASE WHEN kind IN ('begin', 'requeue', 'message') THEN at_us END) AS began_at,
    min(CASE WHEN kind = 'attempt' THEN at_us - coalesce(delay, 0) ELSE at_us END) AS first_at,
    max(CASE WHEN message_id NOT IN ('', '<>') AND status <> 'resent' THEN message_id END) AS message_id,
    max(message_id) AS any_message_id,
    max(CASE WHEN kind IN ('queued', 'expired') OR (sender <> '' AND kind NOT IN ('begin', 'requeue')) THEN sender END)
      AS sender,
    max(CASE WHEN kind IN ('begin', 'requeue') THEN sender END) AS first_sender,
    max(CASE WHEN kind IN ('queued', 'expired') OR (sender <> '' AND kind NOT IN ('begin', 'requeue')) THEN 1 ELSE 0 END)
      AS queued,
    max(CASE WHEN kind = 'begin' THEN 1 ELSE 0 END) AS begun,
    max(CASE
      WHEN kind = 'header' AND position(concat('header ', (SELECT header FROM params), ':') IN lower(text)) > 0 THEN text
    END) AS header,
    max(CASE WHEN kind = 'header' THEN text END) AS any_header,
    max(CASE WHEN kind = 'header' AND position('header subject:' IN lower(text)) > 0 THEN text END) AS subject,
    max(CASE WHEN kind IN ('begin', 'requeue') THEN next_qid END) AS origin,
    max(CASE WHEN kind = 'requeue' THEN 1 ELSE 0 END) AS requeued,
    max(CASE WHEN kind = 'expired' THEN at_us END) AS expired_at,
    max(CASE WHEN kind = 'removed' THEN at_us END) AS removed_at,
    max(CASE WHEN kind = 'removed' AND status = 'deleted' THEN 1 ELSE 0 END) AS deleted,
    max(at_us) AS last_at
  FROM life
  GROUP BY host, instance, qid, epoch
),
numbered AS (
  SELECT
    row_number() OVER (
      ORDER BY host ASC NULLS LAST, instance ASC NULLS LAST, qid ASC NULLS LAST, epoch ASC NULLS LAST
    ) AS life,
    coalesce(began_at, first_at) AS arrived_at,
    *
  FROM summed
),
noticed AS (
  SELECT DISTINCT numbered.life
  FROM numbered
  JOIN life AS told ON told.host = numbered.host AND told.next_qid = numbered.qid
  WHERE told.kind = 'hop' AND numbered.arrived_at BETWEEN told.at_us - 10000000 AND told.at_us + 10000000
)
SELECT
  numbered.life,
  host,
  instance,
  qid,
  epoch,
  arrived_at,
  coalesce(message_id, any_message_id, '') AS message_id,
  coalesce(sender, first_sender, '') AS sender,
  queued,
  coalesce(header, any_header, '') AS header,
  coalesce(subject, '') AS subject,
  coalesce(origin, '') AS origin,
  requeued,
  CASE
    WHEN sender <> '' AND position('double-bounce@' IN sender) <> 1 THEN 0
    WHEN noticed.life IS NOT NULL OR (queued = 1 AND begun = 0) THEN 1
    ELSE 0
  END AS notice,
  expired_at,
  removed_at,
  deleted,
  last_at
FROM numbered
LEFT JOIN noticed ON noticed.life = numbered.life
