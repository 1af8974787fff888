-- Purpose: events of Exim's lines of the usual shape (sql/collect/shape/exim.sql): the same as sql/collect/exim.sql gives of
--   them, by fewer steps. A test holds both against each other.
-- Parameters: host VARCHAR. Reads shaped, setup/exim, setup/replies, setup/places, setup/durations.
-- Columns: those of sql/collect/exim.sql.
WITH arrived AS (
  -- <= sender H=host [ip] P=esmtp S=123 id=a@b from <sender> for a@b c@d
  SELECT
    line,
    text,
    at_us,
    body,
    'queued' AS kind,
    CASE WHEN word = '<>' THEN '' ELSE word END AS sender,
    CASE WHEN size_ > 0 THEN TRY_CAST(first_word(substring(text, size_ + 3, 18)) AS BIGINT) END AS size,
    CASE
      WHEN id_ = 0 THEN NULL
      WHEN starts_with(named, '<') THEN left(named, position('>' IN named))
      ELSE concat('<', first_word(named), '>')
    END AS message_id,
    CASE WHEN for_ > body THEN len(string_split(trim(substring(text, for_ + 5)), ' ')) END AS nrcpt
  FROM (
    SELECT *, substring(text, id_ + 4) AS named
    FROM (
      SELECT
        *,
        substring(text, body, gap - 1) AS word,
        spaced('S=', text, body) AS size_,
        spaced('id=', text, body) AS id_,
        spaced('for ', text, body) AS for_
      FROM shaped
      WHERE class = 1
    )
  )
),
delivered AS (
  -- => a@b F=<s@d> R=router T=transport H=host [ip]:25 X=... C="250 ok" QT=1s
  SELECT
    line,
    text,
    at_us,
    body,
    'attempt' AS kind,
    recipient,
    '' AS orig_to,
    CASE
      WHEN open > 0 AND starts_with(via, '[') THEN lower(trim(left(via, open - 1), '[]'))
      WHEN open > 0 THEN lower(left(via, open - 1))
      WHEN contains(substring(text, body, told - body + 1), ' T=')
        THEN regexp_extract(substring(text, body, told - body + 1), ' T=([^ ]*)', 1)
    END AS relay,
    CASE WHEN open > 0 AND close > open THEN substring(text, via_ + open + 1, close - open - 2) END AS relay_ip,
    CASE
      WHEN close > 0 AND close < length(via) AND substring(text, via_ + close, 1) = ':'
        THEN TRY_CAST(regexp_extract(substring(via, close + 2, 6), '^[0-9]+') AS INTEGER)
    END AS relay_port,
    'sent' AS status,
    reply_code(opening) AS code,
    CASE WHEN substring(text, told + 9, 6) LIKE '_._._ ' THEN substring(text, told + 9, 5) END AS enhanced,
    CASE WHEN waited > 0 THEN units_us(regexp_extract(substring(text, waited + 4, 24), '^[^ ]*')) END AS delay,
    next_queue_id(accepted) AS next_qid
  FROM (
    SELECT
      *,
      position(' [' IN via) AS open,
      position(']' IN substring(via, position(' [' IN via) + 1)) + position(' [' IN via) AS close,
      substring(text, told + 5) AS accepted,
      substring(text, told + 5, 4) AS opening
    FROM (
      SELECT *, CASE WHEN via_ > 0 THEN substring(text, via_, told - via_ + 1) END AS via
      FROM (
        SELECT *, CASE WHEN host_ BETWEEN 1 AND told - 2 THEN host_ + 3 ELSE 0 END AS via_
        FROM (
          SELECT
            *,
            CASE WHEN reply_ > 0 THEN reply_ - 1 ELSE length(text) END AS told
          FROM (
            SELECT
              *,
              substring(text, body, gap - 1) AS recipient,
              spaced('C="', text, body) AS reply_,
              spaced('H=', text, body) AS host_,
              spaced('QT=', text, body) AS waited
            FROM shaped
            WHERE class = 2
          )
        )
      )
    )
  )
),
-- == a@b R=router T=transport defer (-44) H=host [ip]: reason     ** a@b R=router T=transport H=host [ip]: reason
failed AS (
  SELECT
    line,
    text,
    at_us,
    body,
    'attempt' AS kind,
    recipient,
    '' AS orig_to,
    CASE
      WHEN open > 0 AND starts_with(via, '[') THEN lower(trim(left(via, open - 1), '[]'))
      WHEN open > 0 THEN lower(left(via, open - 1))
    END AS relay,
    CASE
      WHEN NOT (open > 0 AND close > open) THEN NULL
      WHEN via_ > 0 THEN substring(text, via_ + open + 1, close - open - 2)
      ELSE substring(via, open + 2, close - open - 2)
    END AS relay_ip,
    CASE
      WHEN close > 0 AND CASE WHEN via_ > 0 THEN close < length(via) AND substring(text, via_ + close, 1) = ':' ELSE substring(via, close + 1, 1) = ':' END
        THEN TRY_CAST(regexp_extract(substring(via, close + 2, 6), '^[0-9]+') AS INTEGER)
    END AS relay_port,
    CASE WHEN class = 3 THEN 'deferred' ELSE exim_failed(reason) END AS status,
    exim_code(reason, told_reply) AS code,
    exim_enhanced(reason, told_reply) AS enhanced,
    nullif(reason, '') AS reply
  FROM (
    SELECT
      *,
      position(' [' IN via) AS open,
      position(']' IN substring(via, position(' [' IN via) + 1)) + position(' [' IN via) AS close,
      CASE WHEN contains(reason, ': ') THEN substring(reason, position(': ' IN reason) + 2, 20) END AS told_reply
    FROM (
      SELECT *, exim_reason(rest, why) AS reason
      FROM (
        SELECT
          *,
          CASE
            WHEN via_ > 0 THEN substring(text, via_, told - via_ + 1)
            WHEN class = 3 AND regexp_matches(rest, '^-?[0-9]+\)(?:: [A-Z][A-Za-z ]+)? H=') THEN substring(rest, position(' H=' IN rest) + 3)
            ELSE exim_host(rest)
          END AS via,
          CASE WHEN class = 3 THEN trim(substring(rest, position(': ' IN rest) + 2)) ELSE trim(rest) END AS why
        FROM (
          SELECT
            *,
            CASE WHEN host_ BETWEEN 1 AND told - 2 THEN host_ + 3 ELSE 0 END AS via_,
            substring(text, told + CASE WHEN class = 3 THEN 9 ELSE 3 END) AS rest
          FROM (
            SELECT
              *,
              substring(text, body, gap - 1) AS recipient,
              CASE WHEN class = 3 THEN place(' defer (', text, body) ELSE place(': ', text, body) END - 1 AS told,
              spaced('H=', text, body) AS host_
            FROM shaped
            WHERE class IN (3, 4)
          )
        )
      )
    )
  )
),
united AS (
  FROM arrived
  UNION ALL BY NAME
  FROM delivered
  UNION ALL BY NAME
  FROM failed
  UNION ALL BY NAME
  SELECT line, text, at_us, body, 'removed' AS kind FROM shaped WHERE class = 5
)
SELECT
  at_us,
  params.host AS host,
  '' AS instance,
  substring(text, 21, body - 25) AS qid,
  kind,
  line,
  sender,
  recipient,
  orig_to,
  relay,
  relay_ip,
  relay_port,
  status,
  CASE WHEN code BETWEEN 200 AND 599 THEN code END AS code,
  enhanced,
  delay,
  reply,
  message_id,
  next_qid,
  size,
  nrcpt,
  NULL::VARCHAR AS text
FROM united
CROSS JOIN params
