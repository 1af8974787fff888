-- Purpose: the events in `seen`, each with the life (epoch) of its queue id that it belongs to: ids are used again. A life
--   starts where mail comes in (begin, requeue), or at a message-id that follows none of these; where
--   such lines are missing, at what cannot belong to the mail before: after `removed`, or with another sender or size. Where
--   there are delivery lines only, a delay that reaches back less far than the line before tells of another mail; a source
--   without delays (a service's webhooks) does not use its ids again.
--   Lines of one second come in any order: they are put in the order of a mail's life, unless in that second one life ends
--   and the next begins. A message-id soon after another one is the same mail's: it has two such headers; so is one that
--   was logged a little later than the mail's `queue active`.
-- Parameters: none. Reads seen (events of the queue ids to look at), part_order(part, base: place of its first line among
--   all lines).
-- Columns: host, instance, qid, epoch, kind, at_us, turn, place, part, line, sender, recipient, orig_to, relay, relay_ip,
--   relay_port, status, code, enhanced, delay, reply, message_id, next_qid, size, text.
WITH chosen AS (
  SELECT
    seen.host, seen.instance, seen.qid, seen.kind, seen.at_us, seen.part, seen.line, seen.sender,
    seen.recipient, seen.orig_to, seen.relay, seen.relay_ip, seen.relay_port, seen.status, seen.code,
    seen.enhanced, seen.delay, seen.reply, seen.message_id, seen.next_qid, seen.size, seen.text,
    part_order.base + seen.line AS place,
    CASE
      WHEN seen.kind IN ('header', 'hop') THEN ''
      WHEN seen.kind = 'message' AND seen.status = 'resent' THEN ''
      ELSE seen.kind
    END AS step,
    CASE
      WHEN seen.kind IN ('begin', 'requeue') THEN 0
      WHEN seen.kind = 'message' THEN 1
      WHEN seen.kind = 'header' THEN 2
      WHEN seen.kind = 'queued' THEN 3
      WHEN seen.kind = 'attempt' THEN 4
      WHEN seen.kind = 'removed' THEN 6
      ELSE 5
    END AS usual_turn
  FROM seen
  LEFT JOIN part_order ON part_order.part = seen.part
),
whole AS (
  -- Of nearly all queue ids the log shows one mail from its beginning on: these need none of what follows.
  SELECT host, instance, qid
  FROM chosen
  GROUP BY host, instance, qid
  HAVING sum(CASE WHEN step IN ('begin', 'requeue') THEN 1 ELSE 0 END) = 1
    AND min(CASE WHEN step IN ('begin', 'requeue') THEN at_us END) = min(CASE WHEN step <> '' THEN at_us END)
    AND sum(CASE WHEN step = 'message' THEN 1 ELSE 0 END) < 2
    AND coalesce(
      max(CASE WHEN step = 'message' THEN at_us END)
        <= min(CASE WHEN step NOT IN ('', 'begin', 'requeue', 'message') THEN at_us END),
      true
    )
    AND sum(CASE WHEN step = 'removed' THEN 1 ELSE 0 END) < 2
    AND coalesce(min(CASE WHEN step = 'removed' THEN at_us END) = max(CASE WHEN step <> '' THEN at_us END), true)
    AND coalesce(
      min(CASE WHEN step = 'queued' THEN concat(sender, ' ', CAST(coalesce(size, -1) AS VARCHAR)) END)
        = max(CASE WHEN step = 'queued' THEN concat(sender, ' ', CAST(coalesce(size, -1) AS VARCHAR)) END),
      true
    )
),
sorted AS (
  SELECT chosen.*, CASE WHEN whole.qid IS NULL THEN 0 ELSE 1 END AS alone
  FROM chosen
  LEFT JOIN whole ON whole.host = chosen.host AND whole.instance = chosen.instance AND whole.qid = chosen.qid
),
odd AS (
  SELECT * FROM sorted WHERE alone = 0
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
  FROM odd
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
    odd.*,
    CASE
      WHEN entered.several = 1 THEN 0
      WHEN entered.began = 1 AND entered.ended = 1
        AND (entered.latest % 2 = 1 OR (entered.latest IS NULL AND coalesce(entered.earlier, 0) > 0)) THEN 0
      ELSE odd.usual_turn
    END AS turn
  FROM odd
  JOIN entered
    ON entered.host = odd.host AND entered.instance = odd.instance AND entered.qid = odd.qid
    AND entered.at_us = odd.at_us
),
stepped AS (
  SELECT
    *,
    max(CASE WHEN step IN ('', 'attempt') THEN 0 ELSE 1 END) OVER (PARTITION BY host, instance, qid) AS marked,
    lag(step) OVER (
      PARTITION BY host, instance, qid, CASE WHEN step = '' THEN 1 ELSE 0 END
      ORDER BY at_us ASC NULLS LAST, turn ASC NULLS LAST, place ASC NULLS LAST, part ASC NULLS LAST, line ASC NULLS LAST
    ) AS before,
    lag(step, 2) OVER (
      PARTITION BY host, instance, qid, CASE WHEN step = '' THEN 1 ELSE 0 END
      ORDER BY at_us ASC NULLS LAST, turn ASC NULLS LAST, place ASC NULLS LAST, part ASC NULLS LAST, line ASC NULLS LAST
    ) AS earlier_step,
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
        AND NOT (coalesce(before, '') = 'message' AND at_us - before_us <= 10000000)
        AND NOT (
          coalesce(before, '') = 'queued' AND coalesce(earlier_step, '') IN ('begin', 'requeue') AND at_us - before_us <= 10000000
        ) THEN 1
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
  host, instance, qid, kind, at_us, usual_turn AS turn, place, part, line, sender, recipient, orig_to, relay, relay_ip,
  relay_port, status, code, enhanced, delay, reply, message_id, next_qid, size, text,
  1 AS epoch
FROM sorted
WHERE alone = 1
UNION ALL
SELECT
  host, instance, qid, kind, at_us, turn, place, part, line, sender, recipient, orig_to, relay, relay_ip, relay_port,
  status, code, enhanced, delay, reply, message_id, next_qid, size, text,
  CASE WHEN epoch < 1 THEN 1 ELSE epoch END AS epoch  -- what stands before the first start is the first mail's
FROM numbered
