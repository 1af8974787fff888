-- Purpose: lines that docker's json-file driver kept, and those of Kubernetes' log files, to the lines that the program
--   wrote. One that the program wrote without a time gets docker's. What is no such line stays as it is.
-- Format: docker, docker's json-file driver and the log files of a Kubernetes node
-- Detect: ^\{"log":"
-- Detect: ^\{.*"stream":"std(?:out|err)".*"time":"
-- Detect: ^\d{4}-\d\d-\d\dT\S+ std(?:out|err) [FP] 
-- Facts: docs.docker.com/engine/logging/drivers/json-file; the container runtime interface's log format.
-- Parameters: host VARCHAR ('' unknown). Reads lines(line, text).
-- Columns: line, text.
WITH entry AS (
  SELECT
    line,
    text,
    CASE
      WHEN starts_with(text, '{') AND json_valid(text)
        THEN json_transform(text, '{"log": "VARCHAR", "time": "VARCHAR"}')
      WHEN regexp_matches(text, '^[0-9]{4}-[0-9]{2}-[0-9]{2}T[^ ]+ std(out|err) [FP] ') THEN struct_pack(
        log := regexp_replace(text, '^[^ ]+ std(out|err) [FP] ', ''), time := left(text, position(' ' IN text) - 1)
      )
    END AS said
  FROM lines
),
told AS (
  SELECT line, text, rtrim(said['log'], chr(10) || chr(13)) AS log, said['time'] AS time FROM entry
)
SELECT
  line,
  CASE
    WHEN log IS NULL THEN text
    WHEN regexp_matches(log, '^[A-Za-z0-9_.-]+/[A-Za-z0-9_./-]+(\[[0-9]+\])?: ')  -- program[1]: without a time
      THEN concat(time, ' ', (SELECT coalesce(nullif(host, ''), 'localhost') FROM params), ' ', replace(log, chr(10), ' '))
    ELSE replace(log, chr(10), ' ')
  END AS text
FROM told
