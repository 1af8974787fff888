-- Purpose: mails that the send log has and no line of the evidence mentions, neither their message-id nor the id under
--   which a service took them, sent while the evidence was being written.
-- Parameters: from_us, to_us BIGINT (sent; NULL unbounded), first_us, last_us BIGINT (range of the evidence; NULL none),
--   provider, release, customer VARCHAR ('' all). Reads sendlog, release, seen(message_id, qid), provider_of_domain(domain,
--   provider).
-- Columns: missing.
WITH wanted AS (
  SELECT
    CASE WHEN substring(s.message_id, 1, 1) = '<' THEN split_part(substring(s.message_id, 2), '>', 1) ELSE s.message_id END
      AS bare_id
  FROM sendlog AS s
  CROSS JOIN params
  LEFT JOIN release AS r ON r.id = s.release
  LEFT JOIN provider_of_domain AS d ON d.domain = split_part(s.rcpt_key, '@', 2)
  WHERE s.message_id <> ''
    AND s.sent_at BETWEEN params.first_us AND params.last_us
    AND (params.from_us IS NULL OR s.sent_at >= params.from_us)
    AND (params.to_us IS NULL OR s.sent_at < params.to_us)
    AND (params.release = '' OR s.release = params.release)
    AND (params.customer = '' OR r.customer = params.customer)
    AND (params.provider = '' OR d.provider = params.provider)
),
known AS (
  SELECT DISTINCT
    CASE WHEN substring(message_id, 1, 1) = '<' THEN split_part(substring(message_id, 2), '>', 1) ELSE message_id END
      AS bare_id
  FROM seen
  WHERE message_id <> ''
),
unknown AS (
  SELECT w.bare_id
  FROM wanted AS w
  LEFT JOIN known AS k ON k.bare_id = w.bare_id
  WHERE k.bare_id IS NULL
),
taken AS (
  SELECT DISTINCT u.bare_id
  FROM (SELECT DISTINCT bare_id FROM unknown) AS u
  JOIN seen AS s ON s.qid = u.bare_id
)
SELECT count(*) AS missing
FROM unknown AS u
LEFT JOIN taken AS t ON t.bare_id = u.bare_id
WHERE t.bare_id IS NULL
