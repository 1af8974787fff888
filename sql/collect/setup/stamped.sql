-- Purpose: makes the view `stamped`: what the lines of a syslog say first, their time and where the rest begins. It takes
--   `Dec  7 13:28:01 mta1 `, the same with a year, a fraction or (FreeBSD) a priority behind it, `2026-12-07T13:28:01+09:00
--   mta1 `, `2026-12-07 13:28:01.5 mta1 ` and seconds since 1970 with a fraction (journalctl -o short-unix).
--   Months as journalctl writes them in other languages, too: `12月 07`, `Dez 07`, `déc. 07`. Solaris'
--   `[ID 197553 mail.info]` before the message counts to the program.
-- Parameters: ref_year, ref_month, ref_day BIGINT (the log's last day, in its zone, for times without a year). The
--   session's TimeZone is the zone of times without an offset. Reads lines(line UINTEGER, text VARCHAR).
--   stamped_unlike(usual) gives the same of the lines that are not LIKE `usual`, of all where that is NULL.
-- Columns: line, text, start (where the host begins, NULL: no time stamp), at_us (microseconds UTC, NULL: no such time),
--   colon (where `host program[1]` ends).
-- Names of months as the C library of a language has them, which journalctl uses.
CREATE OR REPLACE TEMP MACRO month_named(name) AS coalesce(
  nullif((position(concat(lower(name), ' ') IN 'jan feb mar apr may jun jul aug sep oct nov dec ') + 3) // 4, 0),
  MAP {
    'ene': 1, 'gen': 1, 'janv': 1, 'sty': 1, 'янв': 1,
    'fev': 2, 'févr': 2, 'lut': 2, 'фев': 2,
    'mär': 3, 'mrz': 3, 'mars': 3, 'mrt': 3, 'мар': 3,
    'avril': 4, 'avr': 4, 'abr': 4, 'kwi': 4, 'апр': 4,
    'mai': 5, 'mag': 5, 'maj': 5, 'mei': 5, 'мая': 5, 'май': 5,
    'juin': 6, 'giu': 6, 'cze': 6, 'июн': 6,
    'juil': 7, 'lug': 7, 'lip': 7, 'июл': 7,
    'août': 8, 'ago': 8, 'sie': 8, 'авг': 8,
    'sept': 9, 'set': 9, 'wrz': 9, 'сен': 9,
    'okt': 10, 'ott': 10, 'out': 10, 'paź': 10, 'окт': 10,
    'lis': 11, 'ноя': 11,
    'dez': 12, 'dic': 12, 'déc': 12, 'des': 12, 'gru': 12, 'дек': 12
  }[rtrim(lower(name), '.')]
);

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
    regexp_extract(mark, '^( ?([0-9]{1,2})月 {1,2}([0-9]{1,2}) )', ['whole', 'month', 'day']) AS eastern,
    regexp_extract(
      mark,
      -- a name of 3 to 5 letters, or of signs beyond ASCII: all of Unicode's letters take 7 ms to prepare, for each block
      '^((?:<[0-9]{1,3}>)?([^\x00-@\[-`{-\x7f]{3,5}[.]?) {1,2}([0-9]{1,2}) ([0-9]{2}:[0-9]{2}:[0-9]{2})'
      '(?: (?:((?:19|20)[0-9]{2}) )?(<)?|[.]))',
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
      WHEN iso OR spaced OR unix OR eastern['whole'] <> '' THEN 0
      WHEN bsd['whole'] = '' THEN NULL
      WHEN bsd['priority'] = '' AND suffix(bsd['whole'], ' ') THEN length(bsd['whole']) + 1
      ELSE 0
    END AS start,
    CASE WHEN spaced THEN 11 ELSE length(bsd['whole']) + length(eastern['whole']) END AS skip,
    CASE WHEN suffix(bsd['whole'], '.') AND length(bsd['whole']) = 16 THEN true END AS precise,
    eastern['whole'] <> '' AS eastern,
    CASE
      WHEN bsd['whole'] <> '' OR eastern['whole'] <> '' THEN epoch_us(coalesce(
        TRY_CAST(printf('%04d-%02d-%02d %s', year, month, day, clock) AS TIMESTAMPTZ),
        CASE
          WHEN bsd['year'] = '' AND month = 2 AND day = 29
            THEN TRY_CAST(printf('%04d-02-29 %s', year - year % 4, clock) AS TIMESTAMPTZ)
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
        coalesce(TRY_CAST(eastern['month'] AS BIGINT), month_named(bsd['month'])) AS month,
        TRY_CAST(concat(eastern['day'], bsd['day']) AS BIGINT) AS day,
        coalesce(nullif(bsd['clock'], ''), '00:00:00') AS clock  -- that of `12月 07 13:28:01` follows, line by line
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
    WHEN eastern THEN at_us + epoch_us(TRY_CAST(split_part(left(text, start - 2), ' ', -1) AS TIME))
    ELSE at_us
  END AS at_us,
  CASE
    WHEN substring(text, colon + 2, 4) = '[ID ' THEN colon + position('] ' IN substring(text, colon + 2, 80)) + 1
    ELSE colon
  END AS colon
FROM placed;

CREATE OR REPLACE TEMP VIEW stamped AS FROM stamped_unlike(NULL::VARCHAR);
