-- Purpose: what a part holds, for the manifest. A line may tell of several events; one of them that was not understood
--   makes it a rejected line.
-- Parameters: $1 the part's Parquet file.
-- Columns: parsed, rejected (counts of lines), losses (of events), first_at, last_at (BIGINT, NULL where no event), hosts (a list).
SELECT
  count(DISTINCT line) - count(DISTINCT line) FILTER (WHERE kind = 'rejected') AS parsed,
  count(DISTINCT line) FILTER (WHERE kind = 'rejected') AS rejected,
  count(*) FILTER (WHERE kind = 'loss') AS losses,
  min(at_us) FILTER (WHERE kind <> 'rejected') AS first_at,
  max(at_us) FILTER (WHERE kind <> 'rejected') AS last_at,
  coalesce(list_sort(list(DISTINCT host) FILTER (WHERE kind <> 'rejected')), []) AS hosts
FROM read_parquet($1)
