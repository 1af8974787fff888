-- Purpose: events that are in more than one file (a copy, a rotated file collected half-way): all but one of each. Equal
--   are events with the same host, time and text (`hash`), and the same ordinal among the equal ones of their part.
-- Parameters: none. Reads overlapping(part, line, host, at_us, hash).
-- Columns: part, line.
WITH numbered AS (
  SELECT
    *,
    row_number() OVER (PARTITION BY part, host, at_us, hash ORDER BY line) AS ordinal
  FROM overlapping
),
copies AS (
  SELECT
    part,
    line,
    row_number() OVER (PARTITION BY host, at_us, hash, ordinal ORDER BY part) AS copy
  FROM numbered
)
SELECT part, line FROM copies WHERE copy > 1
