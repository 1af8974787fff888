-- Purpose: one row for each (message, recipient) as its chain of queue ids tells it. Bounce mails of
--   our own are no originals and stay out; those of others (null_sender) are told apart.
-- Parameters: none. Reads leg, message, chain, step, own_host(address), own_resend(qid, at_us).
-- Columns: chain, message_id, sender, recipient, original (as the sender wrote it), header, subject, arrived_at,
--   first_failed_at, at_us, delivered_at, returned_at, expired_at, removed_at, deleted (0/1), attempts, maybe_delivered
--   (0/1), word (sent, handed: to ourselves, and nothing more is known; bounced, expired, deferred), failed (0/1), relay,
--   relay_ip, code, enhanced, reply, host, instance, qid, epoch, resent (0/1: a resend of ours), null_sender (0/1), last_host,
--   last_qid, path, part, line.
WITH resend AS (
  -- within a quarter of an hour of our sending: the id may be another mail's before and after
  SELECT DISTINCT message.life, message.qid
  FROM message
  JOIN own_resend ON own_resend.qid = message.qid
  WHERE message.arrived_at BETWEEN own_resend.at_us - 900000000 AND own_resend.at_us + 900000000
),
former AS (
  -- What is known of a mail that was put into the queue anew before anything was tried under its first queue id.
  SELECT
    message.life,
    before.qid,
    before.arrived_at,
    before.message_id,
    before.sender,
    before.header,
    before.subject,
    row_number() OVER (
      PARTITION BY message.life ORDER BY before.arrived_at DESC NULLS LAST, before.life ASC NULLS LAST
    ) AS place
  FROM message
  JOIN message AS before ON before.host = message.host AND before.qid = message.origin
  WHERE message.requeued = 1
    AND before.life <> message.life
    AND before.arrived_at <= message.arrived_at + 2000000
    AND before.last_at <= message.arrived_at + 2000000
),
told AS (
  SELECT
    chain.chain,
    chain.depth,
    chain.last,
    chain.forked,
    leg.*,
    message.instance,
    message.qid,
    message.epoch,
    CASE WHEN message.message_id IN ('', '<>') THEN coalesce(former.message_id, message.message_id) ELSE message.message_id END
      AS message_id,
    CASE WHEN message.sender = '' AND message.queued = 0 THEN coalesce(former.sender, '') ELSE message.sender END AS sender,
    message.queued,
    CASE WHEN message.header = '' THEN coalesce(former.header, '') ELSE message.header END AS header,
    CASE WHEN message.subject = '' THEN coalesce(former.subject, '') ELSE message.subject END AS subject,
    message.notice,
    CASE WHEN former.qid IS NOT NULL THEN concat(former.qid, '>') ELSE '' END AS former_qid,
    CASE WHEN resend.qid IS NOT NULL THEN 1 ELSE 0 END AS resent,
    coalesce(former.arrived_at, message.arrived_at) AS arrived_at,
    coalesce(child.host, message.host) AS end_host,
    coalesce(child.qid, message.qid) AS end_qid,
    CASE WHEN child.life IS NULL THEN message.expired_at ELSE child.expired_at END AS expired_at,
    CASE WHEN child.life IS NULL THEN message.removed_at ELSE child.removed_at END AS removed_at,
    CASE WHEN child.life IS NULL THEN message.deleted ELSE child.deleted END AS deleted,
    CASE
      WHEN leg.word = 'sent' AND child.life IS NOT NULL THEN 'deferred'
      WHEN leg.word = 'sent' AND leg.next_qid <> '' AND (
        leg.sent_ip = '' OR by_ip.address IS NOT NULL OR by_name.address IS NOT NULL OR by_port.address IS NOT NULL
      ) THEN 'handed'
      ELSE leg.word
    END AS end_word,
    CASE WHEN failing_own.address IS NULL THEN leg.relay ELSE '' END AS peer,
    CASE WHEN failing_own.address IS NULL THEN leg.relay_ip ELSE '' END AS peer_ip
  FROM chain
  JOIN leg ON leg.leg = chain.leg
  JOIN message ON message.life = leg.life
  LEFT JOIN former ON former.life = message.life AND former.place = 1 AND chain.depth = 0
  LEFT JOIN step ON step.leg = leg.leg AND step.next_leg IS NULL AND chain.last = 1
  LEFT JOIN message AS child ON child.life = step.next_life
  LEFT JOIN own_host AS by_ip ON by_ip.address = leg.sent_ip
  LEFT JOIN own_host AS by_name ON by_name.address = leg.sent_relay
  LEFT JOIN own_host AS by_port ON by_port.address = concat(leg.sent_ip, ':', CAST(leg.sent_port AS VARCHAR))
  LEFT JOIN resend ON resend.life = leg.life
  LEFT JOIN own_host AS failing_own ON failing_own.address = leg.relay_ip
),
placed AS (
  SELECT
    *,
    row_number() OVER (
      PARTITION BY chain
      ORDER BY CASE WHEN reply IS NULL THEN 1 ELSE 0 END ASC NULLS LAST, copied ASC NULLS LAST,
        failed_at DESC NULLS LAST, depth DESC NULLS LAST, leg ASC NULLS LAST
    ) AS failure,
    row_number() OVER (
      PARTITION BY chain
      ORDER BY CASE WHEN peer = '' THEN 1 ELSE 0 END ASC NULLS LAST, named_at DESC NULLS LAST, depth DESC NULLS LAST,
        leg ASC NULLS LAST
    ) AS naming,
    row_number() OVER (
      PARTITION BY chain
      ORDER BY CASE WHEN message_id IN ('', '<>') THEN 1 ELSE 0 END ASC NULLS LAST, depth ASC NULLS LAST,
        leg ASC NULLS LAST
    ) AS identity,
    row_number() OVER (
      PARTITION BY chain
      ORDER BY queued DESC NULLS LAST,
        CASE WHEN sender <> '' AND position('@' IN sender) = 0 THEN 1 ELSE 0 END ASC NULLS LAST,  -- before its domain was added
        depth ASC NULLS LAST, leg ASC NULLS LAST
    ) AS envelope,
    row_number() OVER (
      PARTITION BY chain
      ORDER BY CASE WHEN header = '' THEN 1 ELSE 0 END ASC NULLS LAST, depth ASC NULLS LAST, leg ASC NULLS LAST
    ) AS heading
  FROM told
),
folded AS (
  SELECT
    chain,
    max(CASE WHEN identity = 1 THEN message_id END) AS message_id,
    max(CASE WHEN envelope = 1 THEN sender END) AS sender,
    max(CASE WHEN last = 1 THEN recipient END) AS recipient,
    max(CASE WHEN depth = 0 THEN recipient END) AS first_recipient,
    max(CASE WHEN depth = 0 THEN original END) AS original,
    max(CASE WHEN heading = 1 THEN header END) AS header,
    max(subject) AS subject,
    max(CASE WHEN depth = 0 THEN arrived_at END) AS arrived_at,
    min(first_failed_at) AS first_failed_at,
    max(last_at) AS at_us,
    max(CASE WHEN last = 1 AND end_word = 'sent' THEN sent_at END) AS delivered_at,
    max(CASE WHEN last = 1 THEN returned_at END) AS returned_at,
    max(CASE WHEN last = 1 THEN expired_at END) AS expired_at,
    max(CASE WHEN last = 1 THEN removed_at END) AS removed_at,
    max(CASE WHEN last = 1 THEN deleted END) AS deleted,
    sum(CASE WHEN word = 'sent' AND (last = 0 OR end_word <> 'sent') THEN tries - 1 ELSE tries END) AS attempts,
    max(maybe_delivered) AS maybe_delivered,
    max(CASE WHEN last = 1 THEN end_word END) AS word,
    max(CASE
      WHEN first_failed_at IS NOT NULL OR (last = 1 AND end_word = 'deferred' AND expired_at IS NOT NULL) THEN 1
      ELSE 0
    END) AS failed,
    max(CASE WHEN naming = 1 THEN peer END) AS failing_relay,
    max(CASE WHEN naming = 1 THEN peer_ip END) AS failing_ip,
    max(CASE WHEN last = 1 AND end_word = 'sent' AND sent_ip <> '' THEN sent_relay END) AS sent_relay,
    max(CASE WHEN last = 1 AND end_word = 'sent' AND sent_ip <> '' AND position('/' IN sent_ip) = 0 THEN sent_ip END)
      AS sent_ip,
    max(CASE WHEN failure = 1 THEN code END) AS code,
    max(CASE WHEN failure = 1 THEN enhanced END) AS enhanced,
    max(CASE WHEN failure = 1 THEN reply END) AS reply,
    max(CASE WHEN depth = 0 THEN host END) AS host,
    max(CASE WHEN depth = 0 THEN instance END) AS instance,
    max(CASE WHEN depth = 0 THEN qid END) AS qid,
    max(CASE WHEN depth = 0 THEN epoch END) AS epoch,
    max(CASE WHEN depth = 0 THEN resent END) AS resent,
    max(CASE WHEN depth = 0 AND queued = 1 AND sender = '' THEN 1 ELSE 0 END) AS null_sender,
    max(CASE WHEN last = 1 THEN end_host END) AS last_host,
    max(CASE WHEN last = 1 THEN end_qid END) AS last_qid,
    max(CASE WHEN depth = 0 THEN concat(former_qid, qid) ELSE '' END) AS q0,
    max(CASE WHEN depth = 1 THEN concat('>', qid) ELSE '' END) AS q1,
    max(CASE WHEN depth = 2 THEN concat('>', qid) ELSE '' END) AS q2,
    max(CASE WHEN depth = 3 THEN concat('>', qid) ELSE '' END) AS q3,
    max(CASE WHEN depth = 4 THEN concat('>', qid) ELSE '' END) AS q4,
    max(CASE WHEN depth = 5 THEN concat('>', qid) ELSE '' END) AS q5,
    max(CASE WHEN depth = 6 THEN concat('>', qid) ELSE '' END) AS q6,
    max(CASE WHEN depth = 7 THEN concat('>', qid) ELSE '' END) AS q7,
    max(CASE WHEN last = 1 AND end_qid <> qid THEN concat('>', end_qid) ELSE '' END) AS q8,
    max(CASE WHEN failure = 1 THEN part END) AS part,
    max(CASE WHEN failure = 1 THEN line END) AS line
  FROM placed
  GROUP BY chain
  HAVING max(CASE WHEN depth = 0 THEN notice END) = 0
)
SELECT
  chain,
  message_id,
  sender,
  recipient,
  CASE WHEN position('@' IN original) > 0 THEN original ELSE first_recipient END AS original,
  header,
  subject,
  arrived_at,
  first_failed_at,
  at_us,
  delivered_at,
  returned_at,
  expired_at,
  removed_at,
  deleted,
  attempts,
  maybe_delivered,
  word,
  failed,
  CASE WHEN failing_relay <> '' THEN failing_relay ELSE coalesce(sent_relay, '') END AS relay,
  CASE WHEN failing_relay <> '' THEN failing_ip ELSE coalesce(sent_ip, '') END AS relay_ip,
  coalesce(code, 0) AS code,
  coalesce(enhanced, '') AS enhanced,
  coalesce(reply, '') AS reply,
  host,
  instance,
  qid,
  epoch,
  resent,
  null_sender,
  last_host,
  last_qid,
  concat(q0, q1, q2, q3, q4, q5, q6, q7, q8) AS path,
  part,
  line
FROM folded
