-- Purpose: lines of a system log within those of another one, as a container's log driver or a forwarder writes them
--   (`May  2 22:56:18 node docker[32360]: May  2 20:56:17 mta1 postfix/smtp[30]: ...`), to the lines inside. One that is
--   inside without a time of its own (`docker/mail[900]: postfix/smtp[30]: ...`) keeps that of the outer one, and its host.
--   Lines that are set in, or have tabs for spaces at their beginning, are put right. What is no such line stays as it is.
-- Format: relayed, a system log within another one
-- Detect: ^(?:<\d{1,3}>)?(?:[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d|\d{4}-\d\d-\d\dT\S+) \S+ [^\s:]+: (?:<\d{1,3}>)?(?:[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d|\d{4}-\d\d-\d\dT[\d:]{8}\S*) 
-- Detect: ^(?:<\d{1,3}>)?(?:[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d|\d{4}-\d\d-\d\dT\S+) \S+ [^\s:]+: [\w.-]+(?:/[\w.-]+)*/[a-z-]+\[\d+\]: 
-- Detect: ^[ \t]+(?:<\d{1,3}>)?(?:[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d|\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d\S*) \S
-- Detect: ^(?:<\d{1,3}>)?(?:[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d|\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d\S*)\t\S
-- Facts: docs.docker.com/engine/logging/drivers/syslog: the driver writes the container's line behind its own tag.
-- Parameters: none. Reads lines(line, text).
-- Columns: line, text.
WITH begun AS (
  SELECT
    line,
    CASE
      WHEN contains(left(text, 100), chr(9))
        THEN concat(ltrim(replace(left(text, 100), chr(9), ' ')), substring(text, 101))
      WHEN starts_with(text, ' ') THEN ltrim(text)
      ELSE text
    END AS text
  FROM lines
)
SELECT
  line,
  CASE
    WHEN text LIKE '%]: %' OR text LIKE '%: %' THEN regexp_replace(
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
