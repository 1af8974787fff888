-- Purpose: the cheap checks of catalog values, for DuckDB. What they do not vouch for is judged once each by the Python
--   functions (policy/address.py, clock.py), whose answers lie in address_check and time_check.
-- Parameters: none.
-- Columns: none; makes macros. plain_address(a): ASCII, nothing special. plain_key(a): its rcpt_key.
--   plain_time(t): microseconds UTC, NULL where it is not plainly RFC 3339. unclean(t): has a control character
--   or what some programs take for a line break (NEL, U+2028, U+2029).
CREATE OR REPLACE TEMP MACRO plain_address(a) AS
  length(a) <= 254
  AND regexp_full_match(
    a,
    '[A-Za-z0-9!#$%&''*+/=?^_`{|}~.-]{1,64}@([A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?[.])+[A-Za-z]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?'
  )
  AND NOT contains(split_part(a, '@', 2), '--');  -- xn-- and its like are for the IDNA rules

CREATE OR REPLACE TEMP MACRO plain_key(a) AS concat(split_part(a, '@', 1), '@', lower(split_part(a, '@', 2)));

CREATE OR REPLACE TEMP MACRO plain_time(t) AS
  CASE WHEN regexp_full_match(
      t, '[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-5][0-9]([.][0-9]{1,6})?([Zz]|[+-][0-9]{2}:[0-9]{2})'
    )
    THEN epoch_us(try_cast(concat(left(t, 10), ' ', substring(t, 12, 8)) AS TIMESTAMP))
      + CASE WHEN substring(t, 20, 1) = '.'
          THEN CAST(rpad(regexp_extract(t, '[.]([0-9]+)', 1), 6, '0') AS BIGINT)
          ELSE 0
        END
      - CASE WHEN right(t, 1) IN ('Z', 'z') THEN 0
          ELSE (CAST(substring(right(t, 6), 2, 2) AS BIGINT) * 60 + CAST(right(t, 2) AS BIGINT)) * 60000000
            * CASE WHEN substring(right(t, 6), 1, 1) = '-' THEN -1 ELSE 1 END
        END
  END;

CREATE OR REPLACE TEMP MACRO unclean(t) AS regexp_matches(t, '[\x00-\x1f\x7f-\x{9f}\x{2028}\x{2029}]');

CREATE OR REPLACE TEMP MACRO bad_file(t) AS
  t <> '' AND (starts_with(t, '/') OR starts_with(t, '.') OR contains(t, '/.') OR contains(t, '\') OR unclean(t));
