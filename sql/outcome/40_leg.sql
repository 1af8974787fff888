-- Purpose: one row for each recipient of each life of a queue id (two where a user keeps a copy of what is forwarded,
--   `forward` 1 the one that goes on): how its attempts went and what was the last word (a
--   delivery is final unless a later report says that the mail came back; then a bounce, then an expiry, whose cause is that
--   of the deferrals before it). A report is no attempt. `delivery temporarily suspended` with no relay copies another mail's failure: it is no attempt, and tells the
--   cause only where nothing better does; so does what other servers log where nothing was tried. A soft bounce is a deferral. Where the line names no relay, the receiver that the
--   reply names stands for it.
-- Parameters: none. Reads life, message.
-- Columns: leg, life, host, recipient (as logged), original (orig_to), word (sent, bounced, expired, deferred), last_at,
--   returned_at (of a report that mail which was accepted came back),
--   sent_at, tries, first_failed_at, maybe_delivered (0/1), next_qid, sent_relay, sent_ip, sent_port (of the delivery);
--   relay, relay_ip, named_at (of the last failure that names a receiver); code, enhanced, reply, copied, failed_at (of the
--   last failure); part, line (of the last failure, else of the delivery).
WITH attempt AS (
  SELECT
    message.life,
    life.*,
    split_part(life.recipient, '@', -1) AS domain,
    CASE
      WHEN life.status = 'sent' THEN 'sent'
      WHEN life.status IN ('bounced', 'returned') THEN 'bounced'
      WHEN life.status IN ('expired', 'force-expired') THEN 'expired'
      ELSE 'deferred'
    END AS word,
    CASE
      WHEN life.relay_ip = '' AND position('Deferred: Connection ' IN life.reply) = 1 THEN 1  -- Sendmail: of a host tried before
      WHEN life.relay IN ('none', '') AND (
        position('delivery temporarily suspended' IN life.reply) > 0
        OR position('retry time not reached' IN life.reply) > 0  -- this one and the next three: Exim
        OR position('retry timeout exceeded' IN life.reply) = 1
        OR position('have been failing for a long time' IN life.reply) > 0
        OR position('domain matches queue_smtp_domains' IN life.reply) = 1
        OR life.reply IN ('Envelope expired', 'Envelope removed by administrator')  -- OpenSMTPD
      ) THEN 1
      ELSE 0
    END AS copied,
    CASE WHEN life.status <> 'sent' AND (
      position('message may be sent more than once' IN life.reply) > 0
      OR position('while sending end of data' IN life.reply) > 0
      OR (position('SMTP timeout ' IN life.reply) > 0 AND position(' after end of data' IN life.reply) > 0)  -- Exim
      OR position(' in response to end of data' IN life.reply) > 0
      OR position(' during client DATA status' IN life.reply) > 0  -- Sendmail
    ) THEN 1 ELSE 0 END AS doubtful,
    CASE
      WHEN position('connect to ' IN life.reply) IN (1, 33) THEN split_part(life.reply, 'connect to ', 2)
      WHEN position('host ' IN life.reply) IN (1, 33) THEN split_part(life.reply, 'host ', 2)
      WHEN position('lost connection with ' IN life.reply) IN (1, 33)
        THEN split_part(life.reply, 'lost connection with ', 2)
      WHEN position('conversation with ' IN life.reply) IN (1, 33) THEN split_part(life.reply, 'conversation with ', 2)
      ELSE ''
    END AS naming  -- at 33: after 'delivery temporarily suspended: '
  FROM life
  JOIN message
    ON message.host = life.host AND message.instance = life.instance AND message.qid = life.qid
    AND message.epoch = life.epoch
  WHERE life.kind = 'attempt' AND position('deliverable' IN life.status) = 0
),
named AS (
  SELECT
    *,
    concat(substring(recipient, 1, length(recipient) - length(domain)), lower(domain)) AS folded,
    CASE
      WHEN relay_ip <> '' THEN relay
      WHEN position('.' IN relay) > 1 AND position('/' IN relay) = 0 AND position(' ' IN relay) = 0 THEN relay
      WHEN relay IN ('none', '') AND position('[' IN naming) > 1 AND position(' ' IN split_part(naming, '[', 1)) = 0
        THEN lower(split_part(naming, '[', 1))
      ELSE ''
    END AS peer,
    CASE
      WHEN relay_ip <> '' THEN relay_ip
      WHEN relay IN ('none', '') AND position('[' IN naming) > 1 AND position(' ' IN split_part(naming, '[', 1)) = 0
        THEN split_part(split_part(naming, '[', 2), ']', 1)
      ELSE ''
    END AS peer_ip
  FROM attempt
),
shared AS (
  -- A user who keeps a copy of what is forwarded: delivered here, and goes on elsewhere.
  SELECT life, folded, orig_to
  FROM named
  WHERE word = 'sent' AND relay = 'local'
  GROUP BY life, folded, orig_to
  HAVING min(next_qid) = '' AND max(next_qid) <> ''
),
parted AS (
  SELECT
    named.*,
    CASE WHEN shared.life IS NOT NULL AND named.word = 'sent' AND named.next_qid <> '' THEN 1 ELSE 0 END AS forward
  FROM named
  LEFT JOIN shared ON shared.life = named.life AND shared.folded = named.folded AND shared.orig_to = named.orig_to
),
ranked AS (
  SELECT
    *,
    row_number() OVER (
      PARTITION BY life, folded, orig_to, forward
      ORDER BY
        CASE WHEN word = 'sent' THEN 1 ELSE 0 END ASC NULLS LAST,
        copied ASC NULLS LAST,
        CASE WHEN word = 'expired' THEN 1 ELSE 0 END ASC NULLS LAST,
        at_us DESC NULLS LAST,
        CASE WHEN word = 'deferred' THEN 1 ELSE 0 END ASC NULLS LAST,
        place DESC NULLS LAST, part ASC NULLS LAST, line ASC NULLS LAST
    ) AS failure,
    row_number() OVER (
      PARTITION BY life, folded, orig_to, forward
      ORDER BY
        CASE WHEN word <> 'sent' AND peer <> '' AND position('/' IN peer_ip) = 0 THEN 0 ELSE 1 END ASC NULLS LAST,
        copied ASC NULLS LAST,
        at_us DESC NULLS LAST,
        place DESC NULLS LAST, part ASC NULLS LAST, line ASC NULLS LAST
    ) AS naming_rank,
    row_number() OVER (
      PARTITION BY life, folded, orig_to, forward
      ORDER BY
        CASE WHEN word = 'sent' THEN 0 ELSE 1 END ASC NULLS LAST,
        at_us DESC NULLS LAST,
        place DESC NULLS LAST, part ASC NULLS LAST, line ASC NULLS LAST
    ) AS delivery
  FROM parted
),
summed AS (
  SELECT
    life,
    max(host) AS host,
    folded,
    forward,
    orig_to AS original,
    max(recipient) AS recipient,
    max(CASE
      WHEN status = 'returned' THEN 4 WHEN word = 'sent' THEN 3 WHEN word = 'bounced' THEN 2 WHEN word = 'expired' THEN 1
      ELSE 0
    END) AS strongest,
    max(CASE WHEN status = 'returned' THEN at_us END) AS returned_at,
    max(at_us) AS last_at,
    max(CASE WHEN word = 'sent' THEN at_us END) AS sent_at,
    sum(CASE WHEN copied = 1 OR status = 'returned' THEN 0 ELSE 1 END) AS tries,
    min(CASE WHEN word <> 'sent' THEN at_us END) AS first_failed_at,
    max(doubtful) AS maybe_delivered,
    max(CASE WHEN delivery = 1 AND word = 'sent' THEN next_qid ELSE '' END) AS next_qid,
    max(CASE WHEN delivery = 1 AND word = 'sent' THEN relay ELSE '' END) AS sent_relay,
    max(CASE WHEN delivery = 1 AND word = 'sent' THEN relay_ip ELSE '' END) AS sent_ip,
    max(CASE WHEN delivery = 1 AND word = 'sent' THEN relay_port END) AS sent_port,
    max(CASE WHEN naming_rank = 1 AND word <> 'sent' AND position('/' IN peer_ip) = 0 THEN peer ELSE '' END) AS relay,
    max(CASE WHEN naming_rank = 1 AND word <> 'sent' AND position('/' IN peer_ip) = 0 THEN peer_ip ELSE '' END)
      AS relay_ip,
    max(CASE WHEN naming_rank = 1 AND word <> 'sent' AND peer <> '' THEN at_us END) AS named_at,
    max(CASE WHEN failure = 1 AND word <> 'sent' THEN code END) AS code,
    max(CASE WHEN failure = 1 AND word <> 'sent' THEN enhanced END) AS enhanced,
    max(CASE WHEN failure = 1 AND word <> 'sent' THEN reply END) AS reply,
    max(CASE WHEN failure = 1 AND word <> 'sent' THEN copied END) AS copied,
    max(CASE WHEN failure = 1 AND word <> 'sent' THEN at_us END) AS failed_at,
    max(CASE WHEN failure = 1 THEN part END) AS part,
    max(CASE WHEN failure = 1 THEN line END) AS line
  FROM ranked
  GROUP BY life, folded, orig_to, forward
)
SELECT
  row_number() OVER (ORDER BY life ASC NULLS LAST, folded ASC NULLS LAST, original ASC NULLS LAST, forward ASC NULLS LAST) AS leg,
  CASE
    WHEN strongest = 3 OR sent_at > returned_at THEN 'sent'
    WHEN strongest IN (2, 4) THEN 'bounced'
    WHEN strongest = 1 THEN 'expired'
    ELSE 'deferred'
  END AS word,
  *
FROM summed
