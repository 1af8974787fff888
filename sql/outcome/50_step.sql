-- Purpose: which leg continues which. A mail handed to ourselves goes on under its next queue id, in the life of that id
--   that was under way when the hand-over was logged. Told by: the queue id in the reply (`queued as`); orig_queue_id or
--   orig_id at the next one; for a filter that names none, or one without this recipient, the same message-id to the same
--   recipient. It is a hop only if the address is ours (own_host) or what follows confirms it: the same message-id or
--   recipient.
--   One leg may go on as several (an alias).
-- Parameters: none. Reads leg, message, own_host(address).
-- Columns: leg, next_leg (NULL: the next queue id has said nothing of this recipient yet), next_life, relay_ip (of the
--   hand-over).
WITH handing AS (
  SELECT
    leg.leg,
    leg.life,
    leg.host,
    leg.recipient,
    leg.original,
    leg.word,
    leg.sent_at,
    leg.next_qid,
    leg.sent_relay,
    leg.sent_ip,
    CASE
      WHEN by_ip.address IS NOT NULL OR by_name.address IS NOT NULL OR by_port.address IS NOT NULL THEN 1
      WHEN leg.sent_ip = '' AND leg.next_qid <> '' THEN 1
      ELSE 0
    END AS ours,
    message.message_id,
    message.arrived_at,
    message.last_at,
    message.qid,
    message.removed_at
  FROM leg
  JOIN message ON message.life = leg.life
  LEFT JOIN own_host AS by_ip ON by_ip.address = leg.sent_ip
  LEFT JOIN own_host AS by_name ON by_name.address = leg.sent_relay
  LEFT JOIN own_host AS by_port ON by_port.address = concat(leg.sent_ip, ':', CAST(leg.sent_port AS VARCHAR))
),
followed AS (
  SELECT handing.*, child.life AS next_life, child.arrived_at AS next_at, child.message_id AS next_id, 1 AS way
  FROM handing
  JOIN message AS child ON child.qid = handing.next_qid
  WHERE handing.word = 'sent'
    AND handing.next_qid <> ''
    AND child.life <> handing.life
    AND (child.host = handing.host OR handing.sent_ip NOT IN ('', '127.0.0.1', '::1'))
    AND child.arrived_at <= handing.sent_at + CASE WHEN child.host = handing.host THEN 2000000 ELSE 120000000 END
    AND child.last_at >= handing.sent_at - CASE WHEN child.host = handing.host THEN 2000000 ELSE 120000000 END
  UNION ALL
  SELECT handing.*, child.life, child.arrived_at, child.message_id, CASE WHEN child.host = handing.host THEN 2 ELSE 3 END
  FROM handing
  JOIN message AS child ON child.origin = handing.qid
  WHERE child.life <> handing.life
    AND handing.arrived_at <= child.arrived_at + 2000000
    AND (
      (
        child.requeued = 1 AND child.host = handing.host AND handing.word = 'deferred'
        AND handing.last_at <= child.arrived_at + 2000000
      )
      OR (
        child.requeued = 0 AND handing.word = 'sent'
        AND child.arrived_at <= handing.sent_at + CASE WHEN child.host = handing.host THEN 2000000 ELSE 120000000 END
        AND child.last_at >= handing.sent_at - CASE WHEN child.host = handing.host THEN 2000000 ELSE 120000000 END
      )
    )
  UNION ALL
  SELECT handing.*, child.life, child.arrived_at, child.message_id, 4
  FROM handing
  JOIN message AS child ON child.message_id = handing.message_id AND child.host = handing.host
  WHERE handing.word = 'sent'
    AND handing.message_id NOT IN ('', '<>')
    AND (handing.ours = 1 OR (handing.sent_ip = '' AND handing.sent_relay NOT IN ('', 'none', 'local', 'virtual')))
    AND child.life <> handing.life
    AND child.qid <> handing.qid
    AND child.arrived_at BETWEEN handing.arrived_at AND handing.sent_at + 60000000
),
matched AS (
  SELECT
    followed.*,
    child.leg AS next_leg,
    CASE
      WHEN lower(child.recipient) = lower(followed.recipient) THEN 1
      WHEN lower(child.original) IN (lower(followed.recipient), lower(followed.original)) AND child.original <> '' THEN 1
      ELSE 0
    END AS same_recipient,
    CASE WHEN followed.next_id = followed.message_id AND followed.message_id NOT IN ('', '<>') THEN 1 ELSE 0 END AS same_id
  FROM followed
  LEFT JOIN leg AS child ON child.life = followed.next_life
),
counted AS (
  SELECT
    *,
    max(same_recipient) OVER (PARTITION BY leg, next_life) AS any_same,
    count(*) OVER (PARTITION BY next_life, next_leg, way) AS claims,
    max(CASE WHEN way < 4 THEN 1 ELSE 0 END) OVER (PARTITION BY next_life) AS named
  FROM matched
),
chosen AS (
  -- Without the recipient's own line: all of the next queue id is this mail, if no other leg went into it.
  SELECT *
  FROM counted
  WHERE (way < 4 AND (ours = 1 OR same_id = 1 OR any_same = 1 OR way = 2)) OR (way = 4 AND any_same = 1)
),
best AS (
  -- A filter that makes several mails of one names one of them: the recipients that it does not have are in the others.
  -- Of filters in a row that name no queue id, the next is the first that came in and that no other hop names.
  SELECT
    *,
    dense_rank() OVER (
      PARTITION BY leg
      ORDER BY
        CASE WHEN way < 4 AND any_same = 1 THEN 0 WHEN next_leg IS NULL THEN 1 WHEN way = 4 THEN 2 ELSE 3 END ASC NULLS LAST,
        way ASC NULLS LAST,
        CASE WHEN way = 4 THEN named ELSE 0 END ASC NULLS LAST,
        CASE WHEN way = 4 THEN next_at ELSE 0 END ASC NULLS LAST,
        same_id DESC NULLS LAST, next_at DESC NULLS LAST, next_life ASC NULLS LAST
    ) AS place
  FROM chosen
),
told AS (
  SELECT
    leg,
    CASE WHEN same_recipient = 1 OR (any_same = 0 AND claims = 1) THEN next_leg END AS next_leg,
    next_life,
    sent_ip AS relay_ip,
    any_same
  FROM best
  WHERE place = 1
),
pairs AS (
  SELECT DISTINCT leg, next_leg, next_life, relay_ip FROM told WHERE next_leg IS NOT NULL
),
unheard AS (
  SELECT DISTINCT told.leg, told.next_life, told.relay_ip
  FROM told
  LEFT JOIN pairs ON pairs.leg = told.leg
  WHERE pairs.leg IS NULL
)
SELECT pairs.leg, pairs.next_leg, pairs.next_life, pairs.relay_ip
FROM pairs
LEFT JOIN pairs AS back ON back.leg = pairs.next_leg AND back.next_leg = pairs.leg
WHERE back.leg IS NULL
UNION ALL
SELECT leg, CAST(NULL AS BIGINT) AS next_leg, next_life, relay_ip FROM unheard
