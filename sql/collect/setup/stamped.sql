-- Purpose: makes the view `stamped`: what the lines of a syslog say first, their time and where the rest begins. It takes
--   `Dec  7 13:28:01 mta1 `, the same with a year, a fraction or (FreeBSD) a priority behind it, `2026-12-07T13:28:01+09:00
--   mta1 `, `2026-12-07 13:28:01.5 mta1 ` and seconds since 1970 with a fraction (journalctl -o short-unix). Solaris'
--   `[ID 197553 mail.info]` before the message counts to the program.
-- Parameters: ref_year, ref_month, ref_day BIGINT (the log's last day, in its zone, for times without a year). The
--   session's TimeZone is the zone of times without an offset. Reads lines(line UINTEGER, text VARCHAR).
--   stamped_unlike(usual) gives the same of the lines that are not LIKE `usual`, of all where that is NULL.
-- Columns: line, text, start (where the host begins, NULL: no time stamp), at_us (microseconds UTC, NULL: no such time),
--   colon (where `host program[1]` ends).
CREATE OR REPLACE TEMP MACRO stamped_unlike(usual) AS TABLE
WITH cut_off AS (
  -- The beginning that says when: `Dec  7 13:28:01 mta1 `, `Apr 06 15:16:46 2016 `, `2026-12-07T`.
  SELECT
    line, text,
    left(text, CASE WHEN ascii(text) < 58 THEN 11 ELSE 21 END) AS mark
  FROM lines
  WHERE usual IS NULL OR NOT text LIKE usual
),
mark AS (
  -- Each distinct one once.
  SELECT
    mark,
    regexp_matches(mark, '^[0-9]{4}-[0-9]{2}-[0-9]{2}T') AS iso,
    regexp_matches(mark, '^[0-9]{4}-[0-9]{2}-[0-9]{2} ') AS spaced,
    regexp_matches(mark, '^[0-9]{10}[.]') AS unix,
    regexp_extract(
      mark,
      '^((?:<[0-9]{1,3}>)?([A-Z][a-z]{2}) {1,2}([0-9]{1,2}) ([0-9]{2}:[0-9]{2}:[0-9]{2})(?: (?:((?:19|20)[0-9]{2}) )?(<)?|[.]))',
      ['whole', 'month', 'day', 'clock', 'year', 'priority']
    ) AS bsd
  FROM (SELECT DISTINCT mark FROM cut_off)
),
dated AS (
  -- start: where the host begins; 0: after the first space behind `skip` characters; NULL: no time stamp. Without a year:
  -- the last such day that is not after the reference. 29 February falls back to a leap year.
  SELECT
    mark,
    iso,
    spaced,
    unix,
    CASE
      WHEN iso OR spaced OR unix THEN 0
      WHEN bsd['whole'] = '' THEN NULL
      WHEN bsd['priority'] = '' AND suffix(bsd['whole'], ' ') THEN length(bsd['whole']) + 1
      ELSE 0
    END AS start,
    CASE WHEN spaced THEN 11 ELSE length(bsd['whole']) END AS skip,
    CASE WHEN suffix(bsd['whole'], '.') THEN true END AS precise,
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
),
placed AS (
  SELECT
    cut_off.line,
    cut_off.text,
    dated.* EXCLUDE (mark, start, skip),
    CASE
      WHEN dated.start <> 0 OR dated.start IS NULL THEN dated.start
      WHEN dated.skip = 0 THEN position(' ' IN cut_off.text) + 1
      ELSE dated.skip + position(' ' IN substring(cut_off.text, dated.skip + 1)) + 1
    END AS start,
    position(': ' IN cut_off.text) AS colon
  FROM cut_off
  JOIN dated ON dated.mark = cut_off.mark
)
SELECT
  line,
  text,
  start,
  CASE
    WHEN iso THEN epoch_us(TRY_CAST(left(text, start - 2) AS TIMESTAMPTZ))
    WHEN spaced THEN epoch_us(TRY_CAST(replace(left(text, start - 2), ',', '.') AS TIMESTAMPTZ))
    WHEN unix
      THEN TRY_CAST(left(text, 10) AS BIGINT) * 1000000 + TRY_CAST(rpad(substring(text, 12, least(start - 13, 6)), 6, '0') AS BIGINT)
    WHEN precise THEN at_us + TRY_CAST(rpad(substring(text, 17, least(start - 18, 6)), 6, '0') AS BIGINT)
    ELSE at_us
  END AS at_us,
  CASE
    WHEN substring(text, colon + 2, 4) = '[ID ' THEN colon + position('] ' IN substring(text, colon + 2, 80)) + 1
    ELSE colon
  END AS colon
FROM placed;

CREATE OR REPLACE TEMP VIEW stamped AS FROM stamped_unlike(NULL::VARCHAR);
