-- Purpose: what an incident's failures say of each address: its most damning failure, and how many there were. Damning is a
--   permanent refusal that names the mailbox, then another permanent refusal, then mail that was given up.
-- Parameters: none. Reads affected (an incident's mails), suppression and recipient (of the catalog), took(folded, last_sent_at).
-- Columns: for DuckDB (string_agg). folded, address, provider, status, cause, action, verdict_rule, code, enhanced, reply, evidence, failures, first_us,
--   last_us (of its failures), unsubscribed (0/1), listed ('' not on the list), listed_at (NULL unknown), last_sent_at
--   (delivered, by the evidence; NULL never), microseconds UTC.
WITH failed AS (
  SELECT
    a.*,
    row_number() OVER (
      PARTITION BY a.folded
      ORDER BY
        CASE WHEN a.action = 'never' THEN 0 WHEN a.code >= 500 THEN 1 ELSE 2 END ASC NULLS LAST,
        CASE WHEN a.cause IN ('mailbox_gone', 'bad_domain') THEN 0 ELSE 1 END ASC NULLS LAST,
        a.at DESC NULLS LAST,
        a.outcome_id ASC NULLS LAST
    ) AS place
  FROM affected AS a
  WHERE a.status IN ('bounced', 'expired')
),
counted AS (
  SELECT
    failed.folded,
    count(*) AS failures,
    min(failed.first_failed_at) AS first_us,
    max(failed.at) AS last_us,
    max(CASE WHEN recipient.unsubscribed_at IS NOT NULL THEN 1 ELSE 0 END) AS unsubscribed
  FROM failed
  LEFT JOIN recipient ON recipient.id = failed.recipient_id AND failed.recipient_id <> ''
  GROUP BY failed.folded
),
worst AS (
  -- several entries: the one that was first; the reasons of all of them count
  SELECT folded, string_agg(DISTINCT reason, '; ' ORDER BY reason) AS reason, min(suppression.at) AS at FROM suppression GROUP BY folded
)
SELECT
  f.folded,
  f.rcpt AS address,
  f.provider,
  f.status,
  f.cause,
  f.action,
  f.verdict_rule,
  f.code,
  f.enhanced,
  f.reply,
  f.evidence,
  c.failures,
  c.first_us,
  c.last_us,
  c.unsubscribed,
  coalesce(w.reason, '') AS listed,
  w.at AS listed_at,
  t.last_sent_at
FROM failed AS f
JOIN counted AS c ON c.folded = f.folded
LEFT JOIN worst AS w ON w.folded = f.folded
LEFT JOIN took AS t ON t.folded = f.folded
WHERE f.place = 1
ORDER BY f.folded
