-- Purpose: one row for each (message, recipient) as its chain of queue ids tells it. Bounce mails of our own (no sender)
--   are no originals and stay out.
-- Parameters: none. Reads leg, message, chain, hop.
-- Columns: root, message_id, sender, recipient, original, header, arrived_at, first_failed_at, at_us, delivered_at,
--   expired_at, removed_at, attempts, maybe_delivered, word, handed (0/1: the last word is a hand-over that cannot be
--   followed), failed (0/1), relay, relay_ip, code, enhanced, reply, host, instance, qid, epoch, last_host, last_qid,
--   hops, part, line.
WITH told AS (
  SELECT
    chain.root,
    chain.depth,
    chain.last,
    leg.*,
    message.message_id,
    message.sender,
    message.queued,
    message.header,
    message.arrived_at,
    message.expired_at,
    message.removed_at,
    CASE WHEN hop.qid IS NOT NULL THEN 1 ELSE 0 END AS handed
  FROM chain
  JOIN leg ON leg.leg = chain.leg
  JOIN message
    ON message.host = leg.host AND message.instance = leg.instance AND message.qid = leg.qid
    AND message.epoch = leg.epoch
  LEFT JOIN (SELECT DISTINCT host, qid, recipient, next_qid FROM hop WHERE kind = 'attempt') AS hop
    ON hop.host = leg.host AND hop.qid = leg.qid AND hop.recipient = leg.recipient AND hop.next_qid = leg.next_qid
),
placed AS (
  SELECT
    *,
    row_number() OVER (
      PARTITION BY root
      ORDER BY CASE WHEN reply IS NULL THEN 1 ELSE 0 END,
        CASE WHEN relay IN ('', 'none') THEN 1 ELSE 0 END, depth DESC, leg
    ) AS failure
  FROM told
)
SELECT
  root,
  coalesce(max(CASE WHEN depth = 0 AND message_id NOT IN ('', '<>') THEN message_id END), max(message_id)) AS message_id,
  coalesce(max(CASE WHEN depth = 0 AND queued = 1 THEN sender END), max(sender)) AS sender,
  max(CASE WHEN depth = 0 THEN recipient END) AS recipient,
  max(CASE WHEN depth = 0 THEN original END) AS original,
  max(header) AS header,
  min(arrived_at) AS arrived_at,
  min(first_failed_at) AS first_failed_at,
  max(last_at) AS at_us,
  max(CASE WHEN last = 1 AND last_status = 'sent' AND handed = 0 THEN sent_at END) AS delivered_at,
  max(CASE WHEN last = 1 THEN expired_at END) AS expired_at,
  max(CASE WHEN last = 1 THEN removed_at END) AS removed_at,
  sum(CASE WHEN handed = 0 OR last = 1 THEN tries ELSE tries - 1 END) AS attempts,
  max(maybe_delivered) AS maybe_delivered,
  max(CASE WHEN last = 1 THEN last_status END) AS word,
  max(CASE WHEN last = 1 AND last_status = 'sent' THEN handed ELSE 0 END) AS handed,
  max(CASE WHEN first_failed_at IS NOT NULL THEN 1 ELSE 0 END) AS failed,
  max(CASE WHEN failure = 1 THEN relay END) AS relay,
  max(CASE WHEN failure = 1 THEN relay_ip END) AS relay_ip,
  max(CASE WHEN failure = 1 THEN code END) AS code,
  max(CASE WHEN failure = 1 THEN enhanced END) AS enhanced,
  max(CASE WHEN failure = 1 THEN reply END) AS reply,
  max(CASE WHEN depth = 0 THEN host END) AS host,
  max(CASE WHEN depth = 0 THEN instance END) AS instance,
  max(CASE WHEN depth = 0 THEN qid END) AS qid,
  max(CASE WHEN depth = 0 THEN epoch END) AS epoch,
  max(CASE WHEN last = 1 THEN host END) AS last_host,
  max(CASE WHEN last = 1 THEN qid END) AS last_qid,
  max(depth) AS hops,
  max(CASE WHEN failure = 1 THEN part END) AS part,
  max(CASE WHEN failure = 1 THEN line END) AS line
FROM placed
GROUP BY root
HAVING max(CASE WHEN depth = 0 AND queued = 1 AND sender = '' THEN 1 ELSE 0 END) = 0
