-- Purpose: what became of each try that a relay of ours took: where its queue id, or for a try without an answer its
--   Message-ID, entered the relay's queue about when we sent it.
-- Parameters: none. Reads own_try, mail, message (of sql/outcome run over sql/reconcile/where).
-- Columns: try_id, key, answered (0/1: the try knew its queue id), qid, fate, at_us, reply, arrived_at.
WITH met AS (
  SELECT
    own_try.try_id,
    own_try.key,
    CASE WHEN own_try.remote_qid <> '' THEN 1 ELSE 0 END AS answered,
    mail.qid,
    mail.arrived_at,
    CASE
      WHEN mail.delivered_at IS NOT NULL THEN 'delivered'
      WHEN mail.word = 'bounced' OR mail.expired_at IS NOT NULL THEN 'returned'
      ELSE 'queued_at_relay'
    END AS fate,
    CASE
      WHEN mail.delivered_at IS NOT NULL THEN mail.delivered_at
      WHEN mail.expired_at IS NOT NULL THEN mail.expired_at
      ELSE mail.at_us
    END AS at_us,
    CASE WHEN mail.delivered_at IS NOT NULL THEN '' ELSE coalesce(mail.reply, '') END AS reply,
    row_number() OVER (
      PARTITION BY own_try.try_id
      ORDER BY CASE WHEN mail.qid = own_try.remote_qid THEN 0 ELSE 1 END, mail.arrived_at, mail.host, mail.root
    ) AS choice
  FROM own_try
  JOIN mail
    ON lower(mail.recipient) = lower(own_try.recipient)
    AND mail.arrived_at >= own_try.armed_us - 60000000
    AND mail.arrived_at <= coalesce(own_try.ended_us, own_try.armed_us) + 600000000
    AND (mail.qid = own_try.remote_qid OR (own_try.remote_qid = '' AND mail.message_id = own_try.message_id))
)
SELECT try_id, key, answered, qid, fate, at_us, reply, arrived_at FROM met WHERE choice = 1
UNION ALL
SELECT own_try.try_id, own_try.key, 0, message.qid, 'queued_at_relay', message.arrived_at, '', message.arrived_at
FROM own_try
JOIN message
  ON message.message_id = own_try.message_id
  AND message.queued = 1
  AND message.arrived_at >= own_try.armed_us - 60000000
  AND message.arrived_at <= own_try.armed_us + 900000000
LEFT JOIN met ON met.try_id = own_try.try_id
LEFT JOIN leg
  ON leg.host = message.host AND leg.instance = message.instance AND leg.qid = message.qid
  AND leg.epoch = message.epoch
WHERE own_try.remote_qid = '' AND met.try_id IS NULL AND leg.leg IS NULL
