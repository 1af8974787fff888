-- Purpose: lines of JSON that log shippers and collectors write (Fluentd, Filebeat, Vector, Loki, Graylog, rsyslog
--   templates, exports of Elasticsearch, Splunk and cloud consoles): a line of the log is one of their values, whole or as message beside time, host and program. What is no
--   such line stays as it is; a record without a message becomes an empty line, which is ignored.
-- Format: record, JSON records of log shippers
-- Detect: ^\{.*"(?:message|msg|log|line|MESSAGE|short_message|full_message|_raw|original|textPayload)"\s*:\s*"(?:[^"\\]|\\.){0,80}?(?:[\w.-]+/\w+\[\d+\]: |\b[0-9A-Za-z]{5,20}: (?:to=|from=|client=|uid=|message-id=|removed"))
-- Facts: fields of the Elastic Common Schema, GELF, rsyslog's properties, RFC 5424's names.
-- Parameters: host VARCHAR ('' unknown). Reads lines(line, text).
-- Columns: line, text.
WITH entry AS (
  SELECT line, text, coalesce(json -> '$._source', json -> '$.result', json -> '$.jsonPayload', json) AS json, json AS whole
  FROM (
    SELECT line, text, CASE WHEN starts_with(text, '{') AND json_valid(text) THEN text::JSON END AS json FROM lines
  )
),
told AS (
  SELECT
    line,
    text,
    json,
    ltrim(translate(coalesce(
      json ->> '$.message', json ->> '$.msg', json ->> '$.log', json ->> '$.line', json ->> '$.MESSAGE',
      json ->> '$.full_message', json ->> '$.short_message', json ->> '$._raw', json ->> '$.event.original',
      json ->> '$.textPayload'
    ), chr(10) || chr(13), '  ')) AS message,
    coalesce(
      json ->> '$."@timestamp"', json ->> '$.timestamp', json ->> '$.ISODATE', json ->> '$.R_ISODATE', json ->> '$.DATE', json ->> '$.time', json ->> '$.ts', json ->> '$.timereported',
      json ->> '$.date', json ->> '$._time', whole ->> '$.timestamp', whole ->> '$.receiveTimestamp'
    ) AS said_at,
    coalesce(
      CASE WHEN json_type(json, '$.host') = 'VARCHAR' THEN json ->> '$.host' END, json ->> '$.hostname', json ->> '$.HOST',
      json ->> '$.host.hostname', json ->> '$.host.name', json ->> '$.source_host', json ->> '$.logsource',
      nullif((SELECT host FROM params), ''), 'localhost'
    ) AS host,
    rtrim(coalesce(
      json ->> '$.syslogtag', json ->> '$."syslog-tag"', json ->> '$.tag', json ->> '$.program', json ->> '$.programname',
      json ->> '$.ident', json ->> '$.PROGRAM', json ->> '$.log.syslog.appname', json ->> '$.appname', json ->> '$.app_name', json ->> '$.process.name',
      CASE WHEN json_type(json, '$.process') = 'VARCHAR' THEN json ->> '$.process' END, json ->> '$.SYSLOG_IDENTIFIER',
      'postfix'
    ), ': ') AS program,
    coalesce(json ->> '$.pid', json ->> '$.procid', json ->> '$.process.pid', json ->> '$.PID', '0') AS pid
  FROM entry
)
SELECT
  line,
  CASE
    WHEN json IS NULL THEN text
    WHEN message IS NULL THEN ''
    WHEN regexp_matches(
      message, '^(?:<[0-9]{1,3}>)?(?:[A-Z][a-z]{2} [ 0-9]?[0-9] [0-9:]{8}[ .]|[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9:]{8}|[0-9]{10}[.])'
    ) THEN message
    ELSE concat(
      CASE
        WHEN TRY_CAST(said_at AS DOUBLE) BETWEEN 1e8 AND 1e17 THEN strftime(make_timestamp(TRY_CAST(
          TRY_CAST(said_at AS DOUBLE) * CASE WHEN length(said_at) < 14 AND NOT contains(said_at, '.')
            THEN CASE WHEN length(said_at) < 12 THEN 1000000 ELSE 1000 END
            WHEN contains(said_at, '.') THEN 1000000 ELSE 1 END AS BIGINT
        )), '%Y-%m-%dT%H:%M:%S.%fZ')
        WHEN ascii(said_at) > 57 THEN said_at  -- `Dec  7 13:28:01`
        ELSE replace(said_at, ' ', 'T')
      END, ' ',
      replace(host, ' ', '_'), ' ',
      CASE
        WHEN regexp_matches(message, '^[A-Za-z0-9_.-]+(?:/[A-Za-z0-9_.-]+)+(?:\[[0-9]+\])?: ') THEN ''
        WHEN suffix(program, ']') THEN concat(program, ': ')
        ELSE concat(program, '[', pid, ']: ')
      END,
      message
    )
  END AS text
FROM told
