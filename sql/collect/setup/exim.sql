-- Purpose: macros for what Exim says of a delivery that failed, shared by sql/collect/exim.sql and sql/collect/usual/exim.sql.
--   exim_host(rest): `host [ip]:port` that the words of a failure name. exim_reason(rest, why): the reason without what other
--   log selectors put before and behind it; rest is what it is cut from. exim_failed(reason): expired or bounced.
--   exim_code(reason, told), exim_enhanced(reason, told): the codes of the receiver's reply, NULL where there is none.
-- Each use of an argument is planned anew: arguments are columns.
-- Parameters: none.
-- Columns: none.
CREATE OR REPLACE TEMP MACRO exim_host(rest) AS
  CASE WHEN contains(rest, ' [') THEN regexp_extract(
    rest, '(?:[Rr]emote host|host|connected to|[Cc]onnect(?:ion)? to|^-?[0-9]+\):) ([^ \[\]]+ \[[0-9A-Fa-f.:]+\](?::[0-9]+)?)', 1
  ) END;

CREATE OR REPLACE TEMP MACRO exim_reason(rest, why) AS
  CASE
    WHEN (contains(rest, ' DT=') OR contains(rest, ' H=')) AND (contains(why, 'H=') OR contains(why, 'DT=') OR contains(why, 'QT=')) THEN
      regexp_replace(
        regexp_replace(replace(why, '\n', ' '), '^([A-Z][A-Za-z ]+) H=[^ ]+ \[[^\]]+\](?::[0-9]+)?(?: I=[^ ]+)?(?: DT=[0-9a-z.]+)?(: |$)', '\1\2'),
        '(?: (?:DT|QT)=[0-9a-z.]+)+$', ''
      )
    ELSE replace(why, '\n', ' ')
  END;

CREATE OR REPLACE TEMP MACRO exim_failed(reason) AS
  CASE
    WHEN suffix(reason, 'retry timeout exceeded') OR contains(reason, 'failing for a long time')
      OR contains(reason, 'message timed out') OR contains(reason, 'delivery cancelled by administrator') THEN 'expired'
    ELSE 'bounced'
  END;

-- told: what stands behind the first `: `, where most reasons have the reply.
CREATE OR REPLACE TEMP MACRO exim_code(reason, told) AS
  CASE
    WHEN NOT ascii(reason) BETWEEN 48 AND 57 AND regexp_full_match(left(told, 4), '[245][0-9][0-9][ -]') THEN left(told, 3)::INTEGER
    ELSE TRY_CAST(nullif(regexp_extract(reason, '(?:^|: )([245][0-9][0-9])(?:[ -]|$)', 1), '') AS INTEGER)
  END;

CREATE OR REPLACE TEMP MACRO exim_enhanced(reason, told) AS
  coalesce(
    CASE WHEN NOT ascii(reason) BETWEEN 48 AND 57 THEN nullif(regexp_extract(
      left(told, 20), '^[245][0-9][0-9][ -]#?([245]\.[0-9]{1,3}\.[0-9]{1,3})(?:[^0-9.]|$|\.(?:[^0-9]|$))', 1
    ), '') END,
    nullif(regexp_extract(
      reason, '(?:^|: )[245][0-9][0-9][ -]#?([245]\.[0-9]{1,3}\.[0-9]{1,3})(?:[^0-9.]|$|\.(?:[^0-9]|$))', 1
    ), '')
  );
