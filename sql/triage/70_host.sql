-- Purpose: how far the log of each host reaches, and how many of its mails have no last word because lines are missing.
-- Parameters: none. Reads events, suspect (sql/outcome/90_suspect).
-- Columns: host, first_at, last_at (microseconds UTC), no_evidence.
WITH reach AS (
  SELECT host, min(at_us) AS first_at, max(at_us) AS last_at FROM events WHERE kind <> 'rejected' AND host <> '' GROUP BY host
),
lost AS (
  SELECT last_host AS host, count(*) AS mails FROM suspect WHERE status = 'no_evidence' GROUP BY last_host
)
SELECT reach.host, reach.first_at, reach.last_at, coalesce(lost.mails, 0) AS no_evidence
FROM reach
LEFT JOIN lost ON lost.host = reach.host
ORDER BY reach.host
