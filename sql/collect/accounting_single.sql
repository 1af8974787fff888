-- Purpose: what a part holds, for the manifest, as collect/accounting tells it: of a format of which no line tells of more
--   than one event, so that lines need not be told apart.
-- Parameters: $1 the part's Parquet file.
-- Columns: parsed, rejected (counts of lines), losses (of events), first_at, last_at (BIGINT, NULL where no event), hosts (a list).
SELECT
  coalesce(sum(events) FILTER (WHERE kind <> 'rejected'), 0)::BIGINT AS parsed,
  coalesce(sum(events) FILTER (WHERE kind = 'rejected'), 0)::BIGINT AS rejected,
  coalesce(sum(events) FILTER (WHERE kind = 'loss'), 0)::BIGINT AS losses,
  min(first_at) FILTER (WHERE kind <> 'rejected') AS first_at,
  max(last_at) FILTER (WHERE kind <> 'rejected') AS last_at,
  coalesce(list_sort(list(DISTINCT host) FILTER (WHERE kind <> 'rejected')), []) AS hosts
FROM (
  SELECT host, kind, count(*) AS events, min(at_us) AS first_at, max(at_us) AS last_at
  FROM read_parquet($1)
  GROUP BY host, kind
)
