-- Purpose: one row for each recipient of each life of a queue id: how its attempts went and which was the last word.
--   `delivery temporarily suspended` with no relay copies another mail's failure: it is no attempt, and tells the cause
--   only where nothing better does. A soft bounce is a deferral.
-- Parameters: none. Reads life.
-- Columns: leg, host, instance, qid, epoch, recipient, original, last_status, last_at, first_seen, sent_at, tries, first_failed_at,
--   maybe_delivered (0/1), next_qid, relay, relay_ip, code, enhanced, reply, part, line (of the last failure).
WITH attempt AS (
  SELECT
    *,
    CASE
      WHEN status = 'sent' THEN 'sent'
      WHEN status IN ('bounced', 'expired', 'force-expired') THEN 'bounced'
      ELSE 'deferred'
    END AS word,
    CASE
      WHEN relay IN ('none', '') AND position('delivery temporarily suspended' IN reply) > 0 THEN 1
      ELSE 0
    END AS copied,
    CASE
      WHEN status <> 'sent' AND (
        position('message may be sent more than once' IN reply) > 0
        OR position('while sending end of data' IN reply) > 0
      ) THEN 1
      ELSE 0
    END AS doubtful
  FROM life
  WHERE kind = 'attempt' AND status NOT IN ('deliverable', 'undeliverable')
),
ranked AS (
  SELECT
    *,
    row_number() OVER (
      PARTITION BY host, instance, qid, epoch, recipient
      ORDER BY at_us DESC NULLS LAST, place DESC NULLS LAST, part, line
    ) AS from_last,
    row_number() OVER (
      PARTITION BY host, instance, qid, epoch, recipient
      ORDER BY
        CASE WHEN word = 'sent' THEN 1 ELSE 0 END, copied, at_us DESC NULLS LAST, place DESC NULLS LAST, part, line
    ) AS failure
  FROM attempt
),
summed AS (
  SELECT
    host,
    instance,
    qid,
    epoch,
    recipient,
    max(orig_to) AS original,
    max(CASE WHEN from_last = 1 THEN word END) AS last_status,
    max(at_us) AS last_at,
    min(at_us) AS first_seen,
    max(CASE WHEN word = 'sent' THEN at_us END) AS sent_at,
    sum(1 - copied) AS tries,
    min(CASE WHEN word <> 'sent' THEN at_us END) AS first_failed_at,
    max(doubtful) AS maybe_delivered,
    max(CASE WHEN word = 'sent' THEN next_qid ELSE '' END) AS next_qid,
    max(CASE WHEN failure = 1 AND word <> 'sent' THEN relay END) AS relay,
    max(CASE WHEN failure = 1 AND word <> 'sent' THEN relay_ip END) AS relay_ip,
    max(CASE WHEN failure = 1 AND word <> 'sent' THEN code END) AS code,
    max(CASE WHEN failure = 1 AND word <> 'sent' THEN enhanced END) AS enhanced,
    max(CASE WHEN failure = 1 AND word <> 'sent' THEN reply END) AS reply,
    max(CASE WHEN failure = 1 THEN part END) AS part,
    max(CASE WHEN failure = 1 THEN line END) AS line
  FROM ranked
  GROUP BY host, instance, qid, epoch, recipient
)
SELECT
  row_number() OVER (ORDER BY host, instance, qid, epoch, recipient) AS leg,
  *
FROM summed
