-- Purpose: the most mails to be resent to one mailbox, by receiving system: the recipient gap lies between each two.
-- Parameters: none. Reads affected.
-- Columns: provider, mails.
WITH counted AS (
  SELECT provider, rcpt_key, count(*) AS mails
  FROM affected
  WHERE bucket = 'resend'
  GROUP BY provider, rcpt_key
)
SELECT provider, max(mails) AS mails
FROM counted
GROUP BY provider
ORDER BY mails DESC, provider
