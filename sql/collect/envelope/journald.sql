-- Purpose: entries of the systemd journal (`journalctl -o json`) to lines as syslog would write them. A message that is no
--   printable UTF-8 comes as a list of byte values. An entry without a message becomes an empty
--   line, which is ignored. What is no such entry stays as it is.
-- Format: journald, journalctl -o json
-- Detect: ^\{.*"(?:__REALTIME_TIMESTAMP|_SOURCE_REALTIME_TIMESTAMP)"\s*:
-- Facts: systemd.journal-fields(7), the journal's JSON format (systemd.io/JOURNAL_EXPORT_FORMATS): a field that an entry
--   has several times is a list of texts, a field that is too long for the output is null.
-- Parameters: none. Reads lines(line, text).
-- Columns: line, text.
WITH entry AS (
  SELECT
    line,
    text,
    CASE WHEN starts_with(text, '{') THEN TRY(json_transform(text, '{
      "_SOURCE_REALTIME_TIMESTAMP": "VARCHAR", "__REALTIME_TIMESTAMP": "VARCHAR", "_HOSTNAME": "VARCHAR",
      "SYSLOG_IDENTIFIER": "VARCHAR", "_COMM": "VARCHAR", "SYSLOG_PID": "VARCHAR", "_PID": "VARCHAR", "MESSAGE": "VARCHAR"
    }')) END AS said
  FROM lines
),
told AS (
  SELECT
    line,
    text,
    coalesce(TRY_CAST(said['_SOURCE_REALTIME_TIMESTAMP'] AS BIGINT), TRY_CAST(said['__REALTIME_TIMESTAMP'] AS BIGINT))
      AS at_us,
    coalesce(nullif(said['_HOSTNAME'], ''), 'localhost') AS host,
    coalesce(said['SYSLOG_IDENTIFIER'], said['_COMM'], 'unknown') AS program,
    coalesce(said['SYSLOG_PID'], said['_PID'], '0') AS pid,
    said['MESSAGE'] AS words,
    CASE
      WHEN starts_with(said['MESSAGE'], '[') AND regexp_matches(text, '"MESSAGE"\s*:\s*\[')
        THEN TRY_CAST(said['MESSAGE'] AS JSON)
    END AS list
  FROM entry
),
decoded AS (
  SELECT
    * EXCLUDE (words),
    CASE
      WHEN list IS NULL THEN words
      WHEN json_type(list, '$[0]') = 'VARCHAR' THEN array_to_string(TRY_CAST(list AS VARCHAR[]), ' ')
      ELSE coalesce(
        TRY(decode(unhex(array_to_string(
          list_transform(TRY_CAST(list AS UTINYINT[]), lambda byte: printf('%02x', byte)), ''
        )))),
        array_to_string(
          list_transform(
            TRY_CAST(list AS UTINYINT[]), lambda byte: CASE WHEN byte BETWEEN 1 AND 127 THEN chr(byte) ELSE '?' END
          ),
          ''
        )
      )
    END AS message
  FROM told
)
SELECT
  line,
  CASE
    WHEN at_us IS NULL THEN text
    WHEN message IS NULL THEN ''
    ELSE concat(
      strftime(make_timestamp(at_us), '%Y-%m-%dT%H:%M:%S.%fZ'), ' ',
      CASE WHEN contains(host, ' ') THEN replace(host, ' ', '_') ELSE host END, ' ',
      CASE WHEN starts_with(program, '["') THEN split_part(program, '"', 2) ELSE program END,
      '[', pid, ']: ',
      CASE  -- translate is slow
        WHEN contains(message, chr(10)) OR contains(message, chr(13)) OR contains(message, chr(0))
          THEN translate(message, concat(chr(10), chr(13), chr(0)), '  ?')
        ELSE message
      END
    )
  END AS text
FROM decoded
