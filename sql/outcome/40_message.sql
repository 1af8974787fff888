-- Purpose: what is known of each message in the queue: one row for a life of a queue id.
-- Parameters: none. Reads life.
-- Columns: host, instance, qid, epoch, arrived_at, message_id, sender, queued (0/1: the sender is known), header,
--   expired_at, removed_at, last_at.
SELECT
  host,
  instance,
  qid,
  epoch,
  min(CASE
    WHEN kind IN ('begin', 'requeue', 'message', 'queued') THEN at_us
    WHEN kind = 'attempt' THEN at_us - coalesce(delay, 0)
    ELSE at_us
  END) AS arrived_at,
  coalesce(max(CASE WHEN kind = 'message' THEN message_id END), '') AS message_id,
  coalesce(max(CASE WHEN kind IN ('queued', 'expired') THEN sender END), '') AS sender,
  max(CASE WHEN kind IN ('queued', 'expired') THEN 1 ELSE 0 END) AS queued,
  coalesce(max(CASE WHEN kind = 'header' THEN text END), '') AS header,
  max(CASE WHEN kind = 'expired' THEN at_us END) AS expired_at,
  max(CASE WHEN kind = 'removed' THEN at_us END) AS removed_at,
  max(at_us) AS last_at
FROM life
GROUP BY host, instance, qid, epoch
