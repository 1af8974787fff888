-- Purpose: mails of each release, from the message-id template, for shares where there is no send log.
-- Parameters: id_prefix, id_infix, id_suffix (what stands around the ids), id_parts ('release', 'release recipient',
--   'recipient release'; '': no template). Reads events.
-- Columns: release, mails.
WITH bare AS (
  SELECT DISTINCT
    CASE WHEN substring(events.message_id, 1, 1) = '<' THEN split_part(substring(events.message_id, 2), '>', 1)
      ELSE events.message_id END AS message_id
  FROM events
  CROSS JOIN params
  WHERE events.message_id <> '' AND params.id_parts <> '' AND position(params.id_prefix IN events.message_id) IN (1, 2)
),
cut AS (
  SELECT
    substring(
      bare.message_id,
      length(params.id_prefix) + 1,
      length(bare.message_id) - length(params.id_prefix) - length(params.id_suffix)
    ) AS ids,
    params.id_infix,
    params.id_parts
  FROM bare
  CROSS JOIN params
  WHERE substring(bare.message_id, 1, length(params.id_prefix)) = params.id_prefix
    AND substring(bare.message_id, length(bare.message_id) - length(params.id_suffix) + 1) = params.id_suffix
    AND length(bare.message_id) > length(params.id_prefix) + length(params.id_suffix)
),
named AS (
  SELECT
    CASE
      WHEN id_parts = 'release' THEN ids
      WHEN position(id_infix IN ids) < 2 THEN ''
      WHEN id_parts = 'release recipient' THEN split_part(ids, id_infix, 1)
      ELSE substring(ids, position(id_infix IN ids) + length(id_infix))
    END AS release
  FROM cut
)
SELECT release, count(*) AS mails FROM named WHERE release <> '' GROUP BY release
