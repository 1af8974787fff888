-- Purpose: the events of the queue ids in `near`, each with the life (epoch) of its queue id that it belongs to: ids are
--   used again. A life starts where mail comes in (begin, requeue), or at a message-id that follows none of these.
-- Parameters: none. Reads events, near(host, qid), part_source(part, file, first_line).
-- Columns: those of events, and place (order within a second), epoch.
WITH chosen AS (
  SELECT
    events.*,
    CASE WHEN events.kind IN ('header', 'hop') THEN '' ELSE events.kind END AS step,
    part_source.first_line + events.line AS place
  FROM events
  JOIN near ON near.host = events.host AND near.qid = events.qid
  LEFT JOIN part_source ON part_source.part = events.part
),
stepped AS (
  SELECT
    *,
    lag(step) OVER (
      PARTITION BY host, instance, qid, CASE WHEN step = '' THEN 1 ELSE 0 END
      ORDER BY at_us ASC NULLS LAST, place ASC NULLS LAST, part, line
    ) AS before
  FROM chosen
)
SELECT
  *,
  sum(
    CASE
      WHEN step IN ('begin', 'requeue') THEN 1
      WHEN step = 'message' AND coalesce(before, '') NOT IN ('begin', 'requeue') THEN 1
      WHEN step = 'queued' AND before = 'removed' THEN 1
      ELSE 0
    END
  ) OVER (
    PARTITION BY host, instance, qid
    ORDER BY at_us ASC NULLS LAST, place ASC NULLS LAST, part, line
    ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
  ) AS epoch
FROM stepped
