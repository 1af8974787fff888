-- Purpose: which leg continues which: a mail handed to ourselves goes on under its next queue id, in the life of that id
--   that was under way when the hand-over was logged; the recipient is the same, or the only one there.
-- Parameters: none. Reads hop, leg, message.
-- Columns: leg, next_leg.
WITH handed AS (
  SELECT
    leg.leg,
    leg.recipient,
    hop.at_us,
    child.host,
    child.instance,
    child.qid,
    child.epoch,
    row_number() OVER (
      PARTITION BY leg.leg
      ORDER BY child.arrived_at DESC NULLS LAST, child.host, child.instance, child.qid, child.epoch
    ) AS nearest
  FROM leg
  JOIN message AS parent
    ON parent.host = leg.host AND parent.instance = leg.instance AND parent.qid = leg.qid AND parent.epoch = leg.epoch
  JOIN hop ON hop.host = leg.host AND hop.qid = leg.qid AND (
    (hop.kind = 'attempt' AND hop.recipient = leg.recipient AND hop.next_qid = leg.next_qid AND hop.at_us = leg.sent_at)
    OR (hop.kind = 'begin' AND hop.at_us >= parent.arrived_at - 2000000 AND hop.at_us <= parent.last_at + 2000000)
    OR (hop.kind = 'requeue' AND hop.at_us >= parent.last_at - 2000000 AND parent.removed_at IS NULL)
  )
  JOIN message AS child
    ON child.qid = hop.next_qid
    AND (child.host = hop.next_host OR hop.next_host = '')
    AND child.arrived_at <= hop.at_us + 2000000
    AND child.last_at >= hop.at_us - 2000000
    AND NOT (child.host = leg.host AND child.instance = leg.instance AND child.qid = leg.qid)
),
one AS (
  SELECT * FROM handed WHERE nearest = 1
),
candidates AS (
  SELECT
    one.leg,
    leg.leg AS next_leg,
    row_number() OVER (
      PARTITION BY one.leg
      ORDER BY
        CASE WHEN lower(leg.recipient) = lower(one.recipient) THEN 0
          WHEN lower(leg.original) = lower(one.recipient) THEN 1 ELSE 2 END,
        leg.leg
    ) AS choice,
    CASE WHEN lower(leg.recipient) = lower(one.recipient) OR lower(leg.original) = lower(one.recipient) THEN 1 ELSE 0
    END AS same,
    count(*) OVER (PARTITION BY one.leg) AS legs
  FROM one
  JOIN leg ON leg.host = one.host AND leg.instance = one.instance AND leg.qid = one.qid AND leg.epoch = one.epoch
)
SELECT leg, next_leg FROM candidates WHERE choice = 1 AND (same = 1 OR legs = 1)
