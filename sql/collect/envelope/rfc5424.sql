-- Purpose: lines in the newer syslog form, `<22>1 2026-12-07T13:28:01Z mta1 postfix/smtp 30 - - message`, to the older
--   one. What is no such line stays as it is.
-- Format: rfc5424, the newer syslog form
-- Detect: ^(?:\d+ )?<\d{1,3}>1 \d{4}-\d\d-\d\dT
-- Facts: RFC 5424 section 6; RFC 6587 section 3.4.1 (octet counts before messages).
-- Parameters: none. Reads lines(line, text).
-- Columns: line, text.
WITH entry AS (
  SELECT
    line,
    text,
    CASE WHEN regexp_matches(left(text, 24), '^(?:[0-9]+ )?<[0-9]{1,3}>1 ') THEN regexp_extract(
      text,
      '^(?:[0-9]+ )?<[0-9]{1,3}>1 ([^ ]+) ([^ ]+) ([^ ]+) ([^ ]+) [^ ]+ (?:-|(?:\[(?:[^\]"]|"(?:[^"\\]|\\.)*")*\])+)(?: (.*))?$',
      ['time', 'host', 'program', 'pid', 'message']
    ) END AS said
  FROM lines
)
SELECT
  line,
  CASE
    WHEN said['time'] IS NULL OR said['time'] IN ('', '-') THEN text
    ELSE concat(
      said['time'], ' ', said['host'], ' ', said['program'],
      CASE WHEN said['pid'] = '-' THEN '' ELSE concat('[', said['pid'], ']') END, ': ',
      ltrim(said['message'], chr(65279) || ' ')
    )
  END AS text
FROM entry
