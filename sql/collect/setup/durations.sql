-- Purpose: macros that read how long something took, and how far from UTC a clock is, as logs write it.
-- Parameters: none.
-- Columns: none; makes units_us(said) of `1d2h3m4s`, `5s`, `0.123s`, and clock_us(said) of `1+02:03:04`, `02:03:04`,
--   and offset_us(said) of `+0900`: microseconds, NULL where it is no such duration.
CREATE OR REPLACE TEMP MACRO units_us(said) AS
  CASE
    WHEN length(said) = 2 AND suffix(said, 's') AND ascii(said) BETWEEN 48 AND 57 THEN (ascii(said) - 48) * 1000000  -- most
    WHEN TRY_CAST(rtrim(said, 's') AS DOUBLE) >= 0 THEN TRY_CAST(TRY_CAST(rtrim(said, 's') AS DOUBLE) * 1000000 AS BIGINT)
    WHEN regexp_matches(said, '^(?:[0-9]{1,6}[wdhm])+(?:[0-9]{1,6}(?:\.[0-9]+)?s)?$') THEN TRY_CAST((
      coalesce(TRY_CAST(regexp_extract(said, '([0-9]+)w', 1) AS DOUBLE), 0) * 604800
      + coalesce(TRY_CAST(regexp_extract(said, '([0-9]+)d', 1) AS DOUBLE), 0) * 86400
      + coalesce(TRY_CAST(regexp_extract(said, '([0-9]+)h', 1) AS DOUBLE), 0) * 3600
      + coalesce(TRY_CAST(regexp_extract(said, '([0-9]+)m', 1) AS DOUBLE), 0) * 60
      + coalesce(TRY_CAST(regexp_extract(said, '([0-9.]+)s$', 1) AS DOUBLE), 0)
    ) * 1000000 AS BIGINT)
  END;
-- `02:03:04` is cut by place; anything else, and what is not three numbers there, is split.
CREATE OR REPLACE TEMP MACRO clock_us(said) AS coalesce(
  CASE WHEN length(said) = 8 AND substring(said, 3, 1) = ':' AND substring(said, 6, 1) = ':' AND NOT contains(said, '+') THEN (
    TRY_CAST(left(said, 2) AS BIGINT) * 3600
    + TRY_CAST(substring(said, 4, 2) AS BIGINT) * 60
    + TRY_CAST(substring(said, 7) AS BIGINT)
  ) * 1000000 END,
  split_clock_us(said)
);
CREATE OR REPLACE TEMP MACRO split_clock_us(said) AS (
  coalesce(TRY_CAST(CASE WHEN contains(said, '+') THEN split_part(said, '+', 1) ELSE '0' END AS BIGINT), 0) * 86400
  + TRY_CAST(split_part(split_part(said, '+', -1), ':', 1) AS BIGINT) * 3600
  + TRY_CAST(split_part(said, ':', 2) AS BIGINT) * 60
  + TRY_CAST(split_part(said, ':', 3) AS BIGINT)
) * 1000000;
CREATE OR REPLACE TEMP MACRO offset_us(said) AS
  CASE WHEN length(said) = 5 THEN
    CASE WHEN starts_with(said, '-') THEN -1 ELSE 1 END
    * (TRY_CAST(substring(said, 2, 2) AS BIGINT) * 3600 + TRY_CAST(substring(said, 4, 2) AS BIGINT) * 60) * 1000000
  END;
