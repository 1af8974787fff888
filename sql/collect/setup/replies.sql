-- Purpose: macros over what a receiver said, shared by the formats: the queue id under which a receiver that accepted a
--   mail goes on with it (Postfix, Exim, Sendmail, OpenSMTPD, amavis), and codes at the beginning of a reply.
-- Parameters: none.
-- Columns: none; makes next_queue_id(said), reply_code(said), reply_status(said). NULL where there is none.
CREATE OR REPLACE TEMP MACRO next_queue_id(said) AS nullif(
  CASE
    WHEN contains(said, 'queued as ') THEN
      regexp_extract(substring(said, position('queued as ' IN said) + 10, 40), '^[0-9A-Za-z]+')
    WHEN contains(said, 'queued_as: ') THEN
      regexp_extract(substring(said, position('queued_as: ' IN said) + 11, 40), '^[0-9A-Za-z]+')
    WHEN contains(said, ' Message accepted for delivery') THEN
      regexp_extract(said, '(?:^|[ :(])([0-9A-Za-z]{8,20}) Message accepted for delivery', 1)
    WHEN contains(said, ' id=') THEN
      regexp_extract(said, ' id=([0-9A-Za-z]{6}-[0-9A-Za-z]{6}(?:[0-9A-Za-z]{5})?-[0-9A-Za-z]{2}(?:[0-9A-Za-z]{2})?)(?:[^0-9A-Za-z-]|$)', 1)
  END, ''
);
CREATE OR REPLACE TEMP MACRO reply_code(said) AS
  CASE WHEN substring(said, 4, 1) IN ('', ' ', '-') AND left(said, 1) IN ('2', '4', '5') THEN TRY_CAST(left(said, 3) AS INTEGER) END;
CREATE OR REPLACE TEMP MACRO reply_status(said) AS
  nullif(regexp_extract(said, '^[245][0-9][0-9][ -]#?([245]\.[0-9]{1,3}\.[0-9]{1,3})(?:[^0-9.]|\.?$|\.[^0-9])', 1), '');
