-- Purpose: entries of the systemd journal (`journalctl -o json`) to lines as syslog would write them. A message that is no
--   valid UTF-8 comes as a list of byte values, control characters and all. What is no such entry stays as it is.
-- Format: journald, journalctl -o json
-- Detect: ^\{.*"(?:__REALTIME_TIMESTAMP|_SOURCE_REALTIME_TIMESTAMP)"\s*:
-- Facts: systemd.journal-fields(7), the journal's JSON format (systemd.io/JOURNAL_EXPORT_FORMATS).
-- Parameters: none. Reads lines(line, text).
-- Columns: line, text.
WITH entry AS (
  SELECT
    line,
    text,
    CASE WHEN starts_with(text, '{') AND json_valid(text) THEN json_transform(text, '{
      "_SOURCE_REALTIME_TIMESTAMP": "VARCHAR", "__REALTIME_TIMESTAMP": "VARCHAR", "_HOSTNAME": "VARCHAR",
      "SYSLOG_IDENTIFIER": "VARCHAR", "_COMM": "VARCHAR", "SYSLOG_PID": "VARCHAR", "_PID": "VARCHAR", "MESSAGE": "JSON"
    }') END AS said
  FROM lines
),
told AS (
  SELECT
    line,
    text,
    said,
    TRY_CAST(coalesce(said['_SOURCE_REALTIME_TIMESTAMP'], said['__REALTIME_TIMESTAMP']) AS BIGINT) AS at_us,
    CASE json_type(said['MESSAGE'])
      WHEN 'ARRAY' THEN (
        SELECT decode(unhex(string_agg(printf('%02x', CASE WHEN byte < 128 THEN byte ELSE 63 END), '' ORDER BY place)))
        FROM (
          SELECT unnest(list) AS byte, generate_subscripts(list, 1) AS place
          FROM (SELECT TRY_CAST(said['MESSAGE'] AS UTINYINT[]) AS list)
        )
      )
      ELSE said['MESSAGE'] ->> '$'
    END AS message
  FROM entry
)
SELECT
  line,
  CASE
    WHEN at_us IS NULL OR message IS NULL THEN text
    ELSE concat(
      strftime(make_timestamp(at_us), '%Y-%m-%dT%H:%M:%S.%fZ'), ' ', coalesce(nullif(said['_HOSTNAME'], ''), 'localhost'), ' ',
      coalesce(said['SYSLOG_IDENTIFIER'], said['_COMM'], 'unknown'), '[',
      coalesce(said['SYSLOG_PID'], said['_PID'], '0'), ']: ', replace(message, chr(10), ' ')
    )
  END AS text
FROM told
