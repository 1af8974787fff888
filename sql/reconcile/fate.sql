-- Purpose: what became of each try that a relay of ours took: where its queue id, or for a try without an answer its
--   Message-ID and recipient, entered the relay's queue about when we sent it. While no line names the recipient yet, a
--   Message-ID proves something only if it is this mail's alone: made by us, with the key in it.
-- Parameters: none. Reads own_try, mail, message, leg (of sql/outcome run over sql/reconcile/where).
-- Columns: try_id, key, egress, answered (0/1: the try knew its queue id), host, qid, fate, at_us, reply.
WITH met AS (
  SELECT
    own_try.try_id,
    own_try.key,
    own_try.egress,
    CASE WHEN own_try.remote_qid <> '' THEN 1 ELSE 0 END AS answered,
    mail.host,
    mail.qid,
    CASE
      WHEN mail.delivered_at IS NOT NULL THEN 'delivered'
      WHEN mail.word IN ('bounced', 'expired') OR mail.expired_at IS NOT NULL OR mail.deleted = 1 THEN 'returned'
      ELSE 'queued_at_relay'
    END AS fate,
    CASE
      WHEN mail.delivered_at IS NOT NULL THEN mail.delivered_at
      WHEN mail.expired_at IS NOT NULL THEN mail.expired_at
      WHEN mail.deleted = 1 THEN mail.removed_at
      ELSE mail.at_us
    END AS at_us,
    CASE WHEN mail.delivered_at IS NOT NULL THEN '' ELSE mail.reply END AS reply,
    row_number() OVER (
      PARTITION BY own_try.try_id
      ORDER BY mail.arrived_at ASC NULLS LAST, mail.host ASC NULLS LAST, mail.chain ASC NULLS LAST
    ) AS choice
  FROM own_try
  JOIN mail
    ON lower(replace(own_try.recipient, '"', ''))
      IN (lower(replace(mail.recipient, '"', '')), lower(replace(mail.original, '"', '')))
    AND mail.arrived_at BETWEEN own_try.armed_us - 60000000
      AND coalesce(own_try.ended_us, own_try.armed_us) + 900000000
    AND (
      (own_try.remote_qid <> '' AND mail.qid = own_try.remote_qid)
      OR (own_try.remote_qid = '' AND mail.message_id = own_try.message_id)
    )
),
unheard AS (
  SELECT
    own_try.try_id,
    own_try.key,
    own_try.egress,
    CASE WHEN own_try.remote_qid <> '' THEN 1 ELSE 0 END AS answered,
    message.host,
    message.qid,
    message.arrived_at,
    row_number() OVER (
      PARTITION BY own_try.try_id ORDER BY message.arrived_at ASC NULLS LAST, message.life ASC NULLS LAST
    ) AS choice
  FROM own_try
  JOIN message
    ON message.queued = 1
    AND message.removed_at IS NULL
    AND message.arrived_at BETWEEN own_try.armed_us - 60000000
      AND coalesce(own_try.ended_us, own_try.armed_us) + 900000000
    AND (
      (own_try.remote_qid <> '' AND message.qid = own_try.remote_qid)
      OR (
        own_try.remote_qid = '' AND message.message_id = own_try.message_id
        AND position(own_try.key IN own_try.message_id) > 0
      )
    )
  LEFT JOIN leg ON leg.life = message.life
  LEFT JOIN met ON met.try_id = own_try.try_id
  WHERE leg.life IS NULL AND met.try_id IS NULL
)
SELECT try_id, key, egress, answered, host, qid, fate, at_us, reply FROM met WHERE choice = 1
UNION ALL
SELECT try_id, key, egress, answered, host, qid, 'queued_at_relay', arrived_at, '' FROM unheard WHERE choice = 1
