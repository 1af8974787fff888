-- Purpose: the subject that was logged or came back with a bounce is the title of a release sent in the days before; the
--   recipient is whoever has the address.
-- Confidence: probable
-- Parameters: bounce_window_us BIGINT (how long before), ahead_us BIGINT (how far clocks may differ). Reads open_outcome,
--   subject(outcome_id, subject: decoded, spaces and case folded), title(release, title: the same way).
-- Columns: outcome_id, release, recipient_id (''), evidence.
WITH told AS (
  SELECT DISTINCT subject FROM subject WHERE subject <> ''
),
named AS (
  -- exactly, or with something of at most 40 characters around it: `[News] TITLE`
  SELECT told.subject, title.release
  FROM told
  JOIN title
    ON told.subject = title.title
    OR (
      length(title.title) >= 10 AND length(told.subject) <= length(title.title) + 40
      AND position(title.title IN told.subject) > 0
    )
)
SELECT
  o.outcome_id,
  named.release,
  '' AS recipient_id,
  concat(o.evidence, ' subject is the title of ', named.release) AS evidence
FROM open_outcome AS o
CROSS JOIN params
JOIN subject ON subject.outcome_id = o.outcome_id
JOIN named ON named.subject = subject.subject
JOIN release AS r ON r.id = named.release
WHERE r.sent_at IS NULL
  OR r.sent_at BETWEEN o.arrived_at - params.bounce_window_us AND o.arrived_at + params.ahead_us
