-- Purpose: lines of a system log whose beginning is another's, to those that syslog itself would write: within the lines
--   of another system log, as a container's log driver or a forwarder writes them (`May  2 22:56:18 node docker[32360]: May
--   2 20:56:17 mta1 postfix/smtp[30]: ...`); behind the name of the file, as grep writes it; with a priority before a time
--   in ISO 8601; `journalctl -o short-full`; with the year first; set in, or with tabs for spaces. One that is inside
--   another without a time of its own (`docker/mail[900]: postfix/smtp[30]: ...`) keeps that of the outer one, and its
--   host. Zones that short-full names count only if they are UTC. What is no such line stays as it is.
-- Format: relayed, a system log within another one or with a beginning of its own
-- Detect: ^(?:<\d{1,3}>)?(?:[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d|\d{4}-\d\d-\d\dT\S+) \S+ [^\s:]+: (?:<\d{1,3}>)?(?:[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d|\d{4}-\d\d-\d\dT[\d:]{8}\S*) 
-- Detect: ^(?:<\d{1,3}>)?(?:[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d|\d{4}-\d\d-\d\dT\S+) \S+ [^\s:]+: [\w.-]+(?:/[\w.-]+)*/[a-z-]+\[\d+\]: 
-- Detect: ^[ \t]+(?:<\d{1,3}>)?(?:[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d|\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d\S*) \S
-- Detect: ^(?:<\d{1,3}>)?(?:[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d|\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d\S*)\t\S
-- Detect: ^<\d{1,3}>\d{4}-\d\d-\d\d[T ]\d\d:
-- Detect: ^[A-Z][a-z]{2} \d{4}-\d\d-\d\d \d\d:\d\d:\d\d(?:\.\d+)? [A-Z]{1,5} \S
-- Detect: ^\d{4} [A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d 
-- Detect: ^[^\s:./{"<]*[./][^\s:]*:(?:\d+:)?(?:[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d|\d{4}-\d\d-\d\d[T ]\d\d:)
-- Facts: docs.docker.com/engine/logging/drivers/syslog: the driver writes the container's line behind its own tag;
--   journalctl(1).
-- Parameters: none. Reads lines(line, text).
-- Columns: line, text.
WITH set_out AS (
  SELECT
    line,
    CASE
      WHEN contains(left(text, 100), chr(9))
        THEN concat(ltrim(replace(left(text, 100), chr(9), ' ')), substring(text, 101))
      WHEN starts_with(text, ' ') THEN ltrim(text)
      ELSE text
    END AS text
  FROM lines
),
begun AS (
  SELECT
    line,
    CASE
      WHEN starts_with(text, '<') THEN regexp_replace(text, '^<[0-9]{1,3}>([0-9]{4}-[0-9]{2}-[0-9]{2}[T ])', '\1')
      WHEN substring(text, 5, 1) = ' ' AND ascii(text) < 58
        THEN regexp_replace(text, '^([0-9]{4}) ([A-Z][a-z]{2} [ 0-9][0-9] [0-9:]{8}) ', '\2 \1 ')
      WHEN substring(text, 4, 1) = ' ' THEN regexp_replace(
        regexp_replace(
          text, '^[A-Z][a-z]{2} ([0-9]{4}-[0-9]{2}-[0-9]{2}) ([0-9:]{8}(?:[.][0-9]+)?) (?:UTC|GMT) ', '\1T\2Z '
        ),
        '^[A-Z][a-z]{2} ([0-9]{4}-[0-9]{2}-[0-9]{2}) ([0-9:]{8}(?:[.][0-9]+)?) [A-Z]{1,5} ', '\1T\2 '
      )
      ELSE regexp_replace(
        text,
        '^[^ :./{"<]*[./][^ :]*:(?:[0-9]+:)?((?:[A-Z][a-z]{2} [ 0-9][0-9] [0-9:]{8} |[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:))',
        '\1'
      )
    END AS text
  FROM set_out
)
SELECT
  line,
  CASE
    WHEN contains(text, ': ') THEN regexp_replace(
      regexp_replace(
        text,
        '^(?:<[0-9]{1,3}>)?(?:[A-Z][a-z]{2} [ 0-9][0-9] [0-9:]{8}|[0-9]{4}-[0-9]{2}-[0-9]{2}T[^ ]+) [^ ]+ [^ :]+: '
        '((?:<[0-9]{1,3}>)?(?:[A-Z][a-z]{2} [ 0-9][0-9] [0-9:]{8} |[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:]{8}))',
        '\1'
      ),
      '^((?:<[0-9]{1,3}>)?(?:[A-Z][a-z]{2} [ 0-9][0-9] [0-9:]{8}|[0-9]{4}-[0-9]{2}-[0-9]{2}T[^ ]+) [^ ]+) [^ :]+: '
      '([A-Za-z0-9_.-]+(?:/[A-Za-z0-9_.-]+)*/[a-z-]+\[[0-9]+\]: )',
      '\1 \2'
    )
    ELSE text
  END AS text
FROM begun
