-- Purpose: one reply to many recipients of one receiving system is an event of that system: how often each wording came.
-- Parameters: none. Reads candidate_mail (sql/link/freeze/affected).
-- Columns: provider, wording, cause, recipients (distinct), first_us, last_us, peak (most mails that failed so within ten
--   minutes), peak_us (when those began).
WITH slots AS (
  SELECT
    provider,
    wording,
    first_failed_at - first_failed_at % 600000000 AS slot_us,
    count(*) AS mails
  FROM candidate_mail
  GROUP BY provider, wording, first_failed_at - first_failed_at % 600000000
),
ranked AS (
  SELECT
    provider,
    wording,
    slot_us,
    mails,
    row_number() OVER (PARTITION BY provider, wording ORDER BY mails DESC NULLS LAST, slot_us NULLS LAST) AS place
  FROM slots
),
people AS (
  SELECT provider, wording, count(*) AS recipients
  FROM (SELECT DISTINCT provider, wording, rcpt_key FROM candidate_mail) AS d
  GROUP BY provider, wording
)
SELECT
  m.provider,
  m.wording,
  min(m.cause) AS cause,
  max(p.recipients) AS recipients,
  min(m.first_failed_at) AS first_us,
  max(m.first_failed_at) AS last_us,
  max(r.mails) AS peak,
  max(r.slot_us) AS peak_us
FROM candidate_mail AS m
JOIN people AS p ON p.provider = m.provider AND p.wording = m.wording
JOIN ranked AS r ON r.provider = m.provider AND r.wording = m.wording AND r.place = 1
GROUP BY m.provider, m.wording
