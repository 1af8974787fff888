-- Purpose: lines that docker's json-file driver kept, those of Kubernetes' log files, and what `docker logs -t`, `docker
--   compose logs` and `kubectl logs --timestamps --prefix` put before a line, to the lines that the program wrote. One
--   that the program wrote without a time gets docker's. Colours are taken off. What is no such line stays as it is.
-- Format: docker, logs of containers: docker's json-file, Kubernetes, docker compose
-- Detect: ^\{"log":"
-- Detect: ^\{(?=.*"stream":"std(?:out|err)").*"time":"
-- Detect: ^\d{4}-\d\d-\d\dT\S+ std(?:out|err) [FP] 
-- Detect: ^(?:[\w.-]+ +\| |\[pod/\S+\] )(?:\d{4}-\d\d-\d\dT\S+ )?(?:[A-Z][a-z]{2} [ \d]\d \d\d:|\d{4}-\d\d-\d\d[T ]|[\w.-]+/\w+\[)
-- Detect: \x1b\[[\d;]*[mK]
-- Detect: ^\d{4}-\d\d-\d\dT\S+ (?:[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d|\d{4}-\d\d-\d\dT\S+ |[\w.-]+/\w+\[\d+\]: )
-- Facts: docs.docker.com/engine/logging/drivers/json-file; the container runtime interface's log format.
-- Parameters: host VARCHAR ('' unknown). Reads lines(line, text).
-- Columns: line, text.
WITH plain AS (
  SELECT
    line,
    CASE
      WHEN contains(text, chr(27)) THEN regexp_replace(text, concat(chr(27), '\[[0-9;]*[A-Za-z]'), '', 'g')
      ELSE text
    END AS text
  FROM lines
),
entry AS (
  SELECT
    line,
    text,
    CASE
      WHEN starts_with(text, '{') THEN TRY(json_transform(text, '{"log": "VARCHAR", "time": "VARCHAR"}'))
      ELSE struct_pack(
        log := CASE  -- a time before what is no log line is the line's own
          WHEN found['later'] = '' OR regexp_matches(
            found['log'],
            '^(?:[A-Z][a-z]{2} [ 0-9][0-9] [0-9:]{8} |[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9:]{8}[^ ]* |[A-Za-z0-9_.-]+/[A-Za-z0-9_./-]+[[:])'
          ) THEN found['log']
          ELSE text
        END,
        time := CASE WHEN found['time'] <> '' THEN found['time'] ELSE nullif(found['later'], '') END
      )
    END AS said
  FROM (
    SELECT
      line,
      text,
      CASE WHEN NOT starts_with(text, '{') THEN regexp_extract(
        text,
        '^(?:([0-9]{4}-[0-9]{2}-[0-9]{2}T[^ ]+) std(?:out|err) [FP] |'
        '(?:[A-Za-z0-9_.-]+ +[|] |[[]pod/[^ ]+[]] )?(?:([0-9]{4}-[0-9]{2}-[0-9]{2}T[^ ]+) )?)'
        '(.*)$',
        ['time', 'later', 'log']
      ) END AS found
    FROM plain
  )
),
told AS (
  SELECT line, text, rtrim(said['log'], chr(10) || chr(13)) AS log, said['time'] AS time FROM entry
)
SELECT
  line,
  CASE
    WHEN log IS NULL THEN text
    WHEN time IS NOT NULL AND trim(log) <> '' AND NOT regexp_matches(
      log,
      '^(?:<[0-9]+>)?(?:[A-Z][a-z]{2} [ 0-9]?[0-9] [0-9:]{8}[ .]|[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9:]{8}|[0-9]+ <|[0-9]{10}[.])'
    )
      THEN concat(time, ' ', (SELECT coalesce(nullif(host, ''), 'localhost') FROM params), ' ', replace(log, chr(10), ' '))
    ELSE replace(log, chr(10), ' ')
  END AS text
FROM told
