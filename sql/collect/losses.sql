-- Purpose: the times in which lines of a part are missing, by what rsyslog and journald say: from the last line before
--   their message (they speak when the loss is over), and a minute on both sides (their rate is counted over 30 s or so).
-- Parameters: $1 the part's Parquet file.
-- Columns: host, from_at, to_at (BIGINT microseconds UTC).
WITH event AS (
  SELECT host, at_us, line, kind FROM read_parquet($1) WHERE kind <> 'rejected'
)
SELECT
  loss.host,
  least(loss.at_us, coalesce(max(event.at_us), loss.at_us)) - 60000000 AS from_at,
  loss.at_us + 60000000 AS to_at
FROM event AS loss
LEFT JOIN event ON event.line < loss.line AND event.at_us < loss.at_us AND event.host = loss.host AND event.kind <> 'loss'
WHERE loss.kind = 'loss'
GROUP BY loss.host, loss.at_us, loss.line
ORDER BY loss.line
LIMIT 1000
