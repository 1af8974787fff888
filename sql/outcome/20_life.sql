-- Purpose: the events of the queue ids in `near`, each with the life (epoch) of its queue id that it belongs to: ids are
--   used again. A life starts where mail comes in (begin, requeue), or at a message-id that follows none of these; where
--   such lines are missing, at what cannot belong to the mail before: after `removed`, or with another sender or size. Where
--   there are delivery lines only, a delay that reaches back less far than the line before tells of another mail; a source
--   without delays (a service's webhooks) does not use its ids again.
--   Lines of one second come in any order: they are put in the order of a mail's life, unless in that second one life ends
--   and the next begins. A message-id soon after another one is the same mail's: it has two such headers.
-- Parameters: none. Reads events, near(host, qid), part_order(part, base: place of its first line among all lines).
-- Columns: host, instance, qid, epoch, kind, at_us, turn, place, part, line, sender, recipient, orig_to, relay, relay_ip,
--   relay_port, status, code, enhanced, delay, reply, message_id, next_qid, size, text.
WITH chosen AS (
  SELECT
    events.host, events.instance, events.qid, events.kind, events.at_us, events.part, events.line, events.sender,
    events.recipient, events.orig_to, events.relay, events.relay_ip, events.relay_port, events.status, events.code,
    events.enhanced, events.delay, events.reply, events.message_id, events.next_qid, events.size, events.text,
    part_order.base + events.line AS place,
    CASE
      WHEN events.kind IN ('header', 'hop') THEN ''
      WHEN events.kind = 'message' AND events.status = 'resent' THEN ''
      ELSE events.kind
    END AS step,
    CASE
      WHEN events.kind IN ('begin', 'requeue') THEN 0
      WHEN events.kind = 'message' THEN 1
      WHEN events.kind = 'header' THEN 2
      WHEN events.kind = 'queued' THEN 3
      WHEN events.kind = 'attempt' THEN 4
      WHEN events.kind = 'removed' THEN 6
      ELSE 5
    END AS usual_turn
  FROM events
  JOIN near ON near.host = events.host AND near.qid = events.qid
  LEFT JOIN part_order ON part_order.part = events.part
),
instant AS (
  SELECT
    host,
    instance,
    qid,
    at_us,
    max(CASE WHEN step IN ('begin', 'requeue', 'message') THEN 1 ELSE 0 END) AS began,
    max(CASE WHEN step = 'removed' THEN 1 ELSE 0 END) AS ended,
    CASE
      WHEN sum(CASE WHEN step IN ('begin', 'requeue') THEN 1 ELSE 0 END) > 1 THEN 1
      WHEN sum(CASE WHEN step = 'removed' THEN 1 ELSE 0 END) > 1 THEN 1
      ELSE 0
    END AS several
  FROM chosen
  GROUP BY host, instance, qid, at_us
),
entered AS (
  -- open: the last earlier instant that only began or only ended something; one that did both changes nothing
  SELECT
    *,
    max(CASE WHEN began <> ended THEN at_us * 2 + began END) OVER (
      PARTITION BY host, instance, qid
      ORDER BY at_us ASC NULLS LAST
      ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
    ) AS latest,
    sum(CASE WHEN began = 1 AND ended = 1 THEN 0 ELSE 1 END) OVER (
      PARTITION BY host, instance, qid
      ORDER BY at_us ASC NULLS LAST
      ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
    ) AS earlier
  FROM instant
),
turned AS (
  SELECT
    chosen.*,
    CASE
      WHEN entered.several = 1 THEN 0
      WHEN entered.began = 1 AND entered.ended = 1
        AND (entered.latest % 2 = 1 OR (entered.latest IS NULL AND coalesce(entered.earlier, 0) > 0)) THEN 0
      ELSE chosen.usual_turn
    END AS turn
  FROM chosen
  JOIN entered
    ON entered.host = chosen.host AND entered.instance = chosen.instance AND entered.qid = chosen.qid
    AND entered.at_us = chosen.at_us
),
stepped AS (
  SELECT
    *,
    max(CASE WHEN step IN ('', 'attempt') THEN 0 ELSE 1 END) OVER (PARTITION BY host, instance, qid) AS marked,
    lag(step) OVER (
      PARTITION BY host, instance, qid, CASE WHEN step = '' THEN 1 ELSE 0 END
      ORDER BY at_us ASC NULLS LAST, turn ASC NULLS LAST, place ASC NULLS LAST, part ASC NULLS LAST, line ASC NULLS LAST
    ) AS before,
    lag(at_us) OVER (
      PARTITION BY host, instance, qid, CASE WHEN step = '' THEN 1 ELSE 0 END
      ORDER BY at_us ASC NULLS LAST, turn ASC NULLS LAST, place ASC NULLS LAST, part ASC NULLS LAST, line ASC NULLS LAST
    ) AS before_us
  FROM turned
),
started AS (
  SELECT
    *,
    CASE
      WHEN step IN ('begin', 'requeue') THEN 1
      WHEN step = 'message' AND coalesce(before, '') NOT IN ('begin', 'requeue')
        AND NOT (coalesce(before, '') = 'message' AND at_us - before_us <= 10000000) THEN 1
      WHEN step = 'queued' AND before = 'removed' THEN 1
      WHEN step = 'attempt' AND (before = 'removed' OR (before = 'attempt' AND marked = 0))
        AND at_us - delay * 1.1 - 5000000 > before_us THEN 1
      WHEN step <> '' AND before IS NULL THEN 1
      ELSE 0
    END AS start
  FROM stepped
),
guessed AS (
  SELECT
    *,
    sum(start) OVER (
      PARTITION BY host, instance, qid
      ORDER BY at_us ASC NULLS LAST, turn ASC NULLS LAST, place ASC NULLS LAST, part ASC NULLS LAST, line ASC NULLS LAST
      ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
    ) AS guess
  FROM started
),
compared AS (
  SELECT
    *,
    lag(concat(sender, ' ', CAST(coalesce(size, -1) AS VARCHAR))) OVER (
      PARTITION BY host, instance, qid, guess, kind
      ORDER BY at_us ASC NULLS LAST, turn ASC NULLS LAST, place ASC NULLS LAST, part ASC NULLS LAST, line ASC NULLS LAST
    ) AS former
  FROM guessed
),
numbered AS (
  SELECT
    *,
    sum(
      CASE
        WHEN start = 1 THEN 1
        WHEN kind = 'queued' AND former <> concat(sender, ' ', CAST(coalesce(size, -1) AS VARCHAR)) THEN 1
        ELSE 0
      END
    ) OVER (
      PARTITION BY host, instance, qid
      ORDER BY at_us ASC NULLS LAST, turn ASC NULLS LAST, place ASC NULLS LAST, part ASC NULLS LAST, line ASC NULLS LAST
      ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
    ) AS epoch
  FROM compared
)
SELECT
  host, instance, qid, kind, at_us, turn, place, part, line, sender, recipient, orig_to, relay, relay_ip, relay_port,
  status, code, enhanced, delay, reply, message_id, next_qid, size, text,
  CASE WHEN epoch < 1 THEN 1 ELSE epoch END AS epoch  -- what stands before the first start is the first mail's
FROM numbered
