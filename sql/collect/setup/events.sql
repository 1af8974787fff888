-- Purpose: what formats of self-contained records (webhooks, exports) share: the empty view `no_event` with the event
--   columns in their order, and macros that read times, replies and addresses. Nothing here raises for bad text.
--   moment_us(text): microseconds UTC of seconds, milliseconds or microseconds since 1970, or of a time in ISO 8601; NULL
--   before 1973 and after 2286, where only placeholders are (0001-01-01, 9999-12-31).
--   filled(text): not only spaces. tight(text): trim, which is slow where there is nothing to do. one_line(text): without
--   line ends. bare_reply(text): without the `smtp;` that a DSN puts before a reply.
--   told_code(text), told_enhanced(text): the codes that a reply begins with, or that follow `said: `.
--   own_word(word, text): a service's own word for a failure before the text, where that begins with no receiver's reply.
--   bare_address(text): `a@b` of `A B <a@b>`. bracketed(id): a Message-ID in the brackets that its header has.
--   header_text(name, value): the text of a `header` event. accepted_kind(sender): the kind of an event that says that a
--   mail was taken in: `queued`, but without a sender that would be a bounce of ours, so it is a header then.
-- Parameters: none of `params`.
-- Columns: of no_event, those of every format.
CREATE OR REPLACE TEMP VIEW no_event AS
SELECT
  0::BIGINT AS at_us, ''::VARCHAR AS host, ''::VARCHAR AS instance, ''::VARCHAR AS qid, ''::VARCHAR AS kind,
  0::UINTEGER AS line, ''::VARCHAR AS sender, ''::VARCHAR AS recipient, ''::VARCHAR AS orig_to, ''::VARCHAR AS relay,
  ''::VARCHAR AS relay_ip, 0::INTEGER AS relay_port, ''::VARCHAR AS status, 0::INTEGER AS code, ''::VARCHAR AS enhanced,
  0::BIGINT AS delay, ''::VARCHAR AS reply, ''::VARCHAR AS message_id, ''::VARCHAR AS next_qid, 0::BIGINT AS size,
  0::INTEGER AS nrcpt, ''::VARCHAR AS text
WHERE false;

CREATE OR REPLACE TEMP MACRO number_us(value) AS
  CASE
    WHEN value BETWEEN 1e8 AND 1e11 THEN TRY_CAST(round(value * 1000000) AS BIGINT)
    WHEN value BETWEEN 1e11 AND 1e13 THEN TRY_CAST(round(value * 1000) AS BIGINT)
    WHEN value BETWEEN 1e14 AND 1e16 THEN TRY_CAST(value AS BIGINT)
  END;

CREATE OR REPLACE TEMP MACRO moment_us(value) AS
  CASE
    WHEN substring(value, 5, 1) = '-' AND value BETWEEN '1973' AND '2286' THEN epoch_us(TRY_CAST(value AS TIMESTAMPTZ))
    ELSE number_us(TRY_CAST(value AS DOUBLE))
  END;

CREATE OR REPLACE TEMP MACRO filled(value) AS left(value, 1) > ' ' OR trim(value) <> '';

CREATE OR REPLACE TEMP MACRO tight(value) AS
  CASE WHEN left(value, 1) = ' ' OR suffix(value, ' ') THEN trim(value) ELSE value END;

CREATE OR REPLACE TEMP MACRO one_line(value) AS
  CASE
    WHEN contains(value, chr(10)) OR contains(value, chr(13)) THEN trim(regexp_replace(value, '\s*[\r\n]+\s*', ' ', 'g'))
    ELSE tight(value)
  END;

-- Each use of an argument is planned anew: long expressions stand in it once.
CREATE OR REPLACE TEMP MACRO bare_reply(value) AS
  CASE
    WHEN starts_with(value, 'smtp;') THEN one_line(substring(value, 6))
    WHEN contains(left(value, 24), ';') AND left(value, 1) NOT BETWEEN '0' AND '9' THEN trim(regexp_replace(
      regexp_replace(value, '^\s*(?i:smtp|x-[a-z0-9-]{1,16})\s*;\s*', ''), '\s*[\r\n]+\s*', ' ', 'g'
    ))
    ELSE one_line(value)
  END;

CREATE OR REPLACE TEMP MACRO told_code(value) AS
  CASE
    WHEN left(value, 1) IN ('2', '4', '5') AND substring(value, 4, 1) IN (' ', '-', '') THEN TRY_CAST(left(value, 3) AS INTEGER)
    WHEN contains(value, 'said: ') OR contains(value, 'talk to me: ') THEN TRY_CAST(
      regexp_extract(left(value, 500), '(?:said: |refused to talk to me: )([245][0-9][0-9])(?:[ -]|$)', 1) AS INTEGER
    )
  END;

CREATE OR REPLACE TEMP MACRO told_enhanced(value) AS
  CASE
    WHEN starts_with(value, '250 2.0.0 ') THEN '2.0.0'  -- most
    WHEN left(value, 1) IN ('2', '4', '5') AND substring(value, 6, 1) = '.' THEN nullif(
      regexp_extract(substring(value, 5, 12), '^([245]\.[0-9]{1,3}\.[0-9]{1,3})(?:[^.0-9]|$)', 1), ''
    )
    WHEN left(value, 1) IN ('2', '4', '5', '#', '(') THEN nullif(
      regexp_extract(left(value, 24), '^(?:[245][0-9][0-9][ -]+)?[#(]?([245]\.[0-9]{1,3}\.[0-9]{1,3})(?:[^.0-9]|$)', 1), ''
    )
    WHEN contains(value, 'said: ') OR contains(value, 'talk to me: ') THEN nullif(
      regexp_extract(
        left(value, 500),
        '(?:said: |refused to talk to me: )[245][0-9][0-9][ -]+[#(]?([245]\.[0-9]{1,3}\.[0-9]{1,3})(?:[^.0-9]|$)', 1
      ), ''
    )
  END;

CREATE OR REPLACE TEMP MACRO own_word(word, value) AS
  CASE
    WHEN left(value, 1) IN ('2', '4', '5') AND substring(value, 4, 1) IN (' ', '-') THEN value
    WHEN value = '' OR word = '' OR contains(value, 'said: ') THEN coalesce(nullif(value, ''), word)
    ELSE concat_ws(': ', word, value)
  END;

CREATE OR REPLACE TEMP MACRO bare_address(value) AS
  CASE
    WHEN contains(value, '<') THEN regexp_extract(value, '<([^<>]*)>\s*$', 1)
    ELSE tight(value)
  END;

CREATE OR REPLACE TEMP MACRO bracketed(value) AS
  CASE
    WHEN value = '' OR starts_with(value, '<') THEN value
    ELSE '<' || value || '>'
  END;

CREATE OR REPLACE TEMP MACRO accepted_kind(sender) AS CASE WHEN sender <> '' THEN 'queued' ELSE 'header' END;

CREATE OR REPLACE TEMP MACRO header_text(name, value) AS left(concat('header ', name, ': ', one_line(value)), 2000);
