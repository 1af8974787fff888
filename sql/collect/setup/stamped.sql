-- Purpose: makes the view `stamped`: what the lines of a syslog say first, their time and where the rest begins. It takes
--   `Dec  7 13:28:01 mta1 ` and the same with a year, `2026-12-07T13:28:01+09:00 mta1 ` and `2026-12-07 13:28:01 mta1 `.
-- Parameters: ref_year, ref_month, ref_day BIGINT (the log's last day, in its zone, for times without a year). The
--   session's TimeZone is the zone of times without an offset. Reads lines(line UINTEGER, text VARCHAR).
-- Columns: line, text, start (where the host begins, NULL: no time stamp), at_us (microseconds UTC, NULL: no such time),
--   colon (where `host program[1]` ends).
CREATE OR REPLACE TEMP VIEW stamped AS
WITH cut_off AS (
  -- The beginning that says when: `Dec  7 13:28:01 mta1 `, `Apr 06 15:16:46 2016 `, `2026-12-07T`.
  SELECT line, text, left(text, CASE WHEN ascii(text) < 58 THEN 11 ELSE 21 END) AS mark FROM lines
),
mark AS (
  -- Each distinct one once.
  SELECT
    mark,
    regexp_matches(mark, '^[0-9]{4}-[0-9]{2}-[0-9]{2}T') AS iso,
    regexp_matches(mark, '^[0-9]{4}-[0-9]{2}-[0-9]{2} ') AS spaced,
    regexp_extract(
      mark,
      '^((?:<[0-9]{1,3}>)?([A-Z][a-z]{2}) {1,2}([0-9]{1,2}) ([0-9]{2}:[0-9]{2}:[0-9]{2}) (?:((?:19|20)[0-9]{2}) )?)',
      ['whole', 'month', 'day', 'clock', 'year']
    ) AS bsd
  FROM (SELECT DISTINCT mark FROM cut_off)
),
dated AS (
  -- start: where the host begins; 0: after the first space; NULL: no time stamp. Without a year: the last such day that
  -- is not after the reference. 29 February falls back to a leap year.
  SELECT
    mark,
    CASE WHEN iso THEN 0 WHEN spaced THEN 21 WHEN bsd['whole'] <> '' THEN length(bsd['whole']) + 1 END AS start,
    iso OR spaced AS full_,
    CASE
      WHEN bsd['whole'] <> '' THEN epoch_us(coalesce(
        TRY_CAST(printf('%04d-%02d-%02d %s', year, month, day, bsd['clock']) AS TIMESTAMPTZ),
        CASE
          WHEN bsd['year'] = '' AND month = 2 AND day = 29
            THEN TRY_CAST(printf('%04d-02-29 %s', year - year % 4, bsd['clock']) AS TIMESTAMPTZ)
        END
      ))
    END AS at_us
  FROM (
    SELECT
      *,
      CASE
        WHEN bsd['year'] <> '' THEN TRY_CAST(bsd['year'] AS BIGINT)
        WHEN month * 100 + day > ref_month * 100 + ref_day + 1 THEN ref_year - 1
        ELSE ref_year
      END AS year
    FROM (
      SELECT
        *,
        (position(concat(lower(bsd['month']), ' ') IN 'jan feb mar apr may jun jul aug sep oct nov dec ') + 3) // 4
          AS month,
        TRY_CAST(bsd['day'] AS BIGINT) AS day
      FROM mark
    )
    CROSS JOIN params
  )
)
SELECT
  cut_off.line,
  cut_off.text,
  CASE WHEN dated.start = 0 THEN position(' ' IN cut_off.text) + 1 ELSE dated.start END AS start,
  CASE
    WHEN dated.full_ THEN epoch_us(TRY_CAST(
      left(cut_off.text, CASE WHEN dated.start = 0 THEN position(' ' IN cut_off.text) - 1 ELSE 19 END) AS TIMESTAMPTZ
    ))
    ELSE dated.at_us
  END AS at_us,
  position(': ' IN cut_off.text) AS colon
FROM cut_off
JOIN dated ON dated.mark = cut_off.mark
