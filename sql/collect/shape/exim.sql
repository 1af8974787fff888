-- Purpose: lines of an Exim main log that have the shape most lines have, for sql/collect/usual/exim.sql. They begin with
--   Exim's own time, a message id right behind it, then a flag, a bare address, and words that stand once.
-- Parameters: the session's TimeZone is that of the times. Reads lines(line, text).
-- Columns: line, text, at_us, body (where what follows the flag begins), gap (length of the address + 1), class: 0 what
--   sql/collect/exim.sql reads; 1 `<=`, 2 `=>` and `->`, 3 `==`, 4 `**`, 5 `Completed`; 9 what says nothing of a mail.
SELECT
  line,
  text,
  at_us,
  body,
  gap,
  CASE
    WHEN known > 0 THEN known
    WHEN substring(text, 5, 1) = '-' AND substring(text, 11, 1) = ' '
      AND NOT regexp_matches(text, '<=|\(=|=>|->|>>|==|\*\*|Completed|removed by |cancelled by | messages') THEN 9
    ELSE 0
  END::UTINYINT AS class
FROM (
  SELECT
    *,
    CASE
      WHEN at_us IS NULL THEN 0
      WHEN flag = ' Com' THEN CASE WHEN substring(text, body, 6) = 'pleted' THEN 5 ELSE 0 END
      WHEN gap < 2 OR substring(text, body, 1) IN ('"', '(', '/', ':', '>', '|') THEN 0
      WHEN flag = ' <= ' THEN CASE WHEN contains(text, 'T="') THEN 0 ELSE 1 END
      WHEN substring(text, body + gap + 1, 1) <> '=' OR NOT contains(substring(text, body, gap), '@') THEN 0
      WHEN flag = ' => ' OR flag = ' -> ' THEN 2
      WHEN flag = ' == ' THEN CASE WHEN position(' defer (' IN text) > body THEN 3 ELSE 0 END
      WHEN flag = ' ** ' THEN CASE WHEN position(': ' IN text) > body AND NOT contains(text, ' DN="') THEN 4 ELSE 0 END
      ELSE 0
    END AS known
  FROM (
    SELECT
      line,
      text,
      CASE WHEN body > 0 THEN epoch_us(TRY_CAST(left(text, 19) AS TIMESTAMPTZ)) END AS at_us,
      body,
      position(' ' IN substring(text, body, 72)) AS gap,
      substring(text, body - 4, 4) AS flag
    FROM (
      SELECT
        line,
        text,
        CASE
          WHEN text LIKE '____-_____ ________ ______-___________-____ %' THEN 48::BIGINT
          WHEN text LIKE '____-_____ ________ ______-______-__ %' THEN 41::BIGINT
        END AS body
      FROM lines
    )
  )
)
