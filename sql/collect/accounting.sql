-- Purpose: what a part holds, for the manifest. A line may tell of several events; one of them that was not understood
--   makes it a rejected line.
-- Parameters: $1 the part's Parquet file.
-- Columns: parsed, rejected (counts of lines), losses (of events), first_at, last_at (BIGINT, NULL where no event), hosts (a list).
WITH told AS (
  -- a handful of rows: nothing else is worked out event by event
  SELECT host, kind, count(*) AS events, min(at_us) AS first_at, max(at_us) AS last_at
  FROM read_parquet($1)
  GROUP BY host, kind
),
summed AS (
  SELECT
    coalesce(sum(events) FILTER (WHERE kind = 'loss'), 0)::BIGINT AS losses,
    min(first_at) FILTER (WHERE kind <> 'rejected') AS first_at,
    max(last_at) FILTER (WHERE kind <> 'rejected') AS last_at,
    coalesce(list_sort(list(DISTINCT host) FILTER (WHERE kind <> 'rejected')), []) AS hosts
  FROM told
),
rejected AS (
  SELECT count(DISTINCT line) AS lines FROM read_parquet($1) WHERE kind = 'rejected'
)
SELECT
  (SELECT count(DISTINCT line) FROM read_parquet($1)) - rejected.lines AS parsed,
  rejected.lines AS rejected,
  summed.losses,
  summed.first_at,
  summed.last_at,
  summed.hosts
FROM summed
CROSS JOIN rejected
