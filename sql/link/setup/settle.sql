-- Purpose: hold what one rule claims against the catalog: the release must be there, the recipient too, and at the
--   logged address. Everything right and one candidate is certain; what does not fit is said and never certain.
-- Parameters: none. Reads claim(outcome_id, release, recipient_id, evidence), outcome, release, recipient, owner.
-- Columns: outcome_id, release, recipient_id, confidence (model.Confidence), candidates, evidence, doubt ('' none:
--   what kept it from being certain).
WITH judged AS (
  SELECT
    c.outcome_id,
    c.release,
    CASE WHEN r.id IS NOT NULL THEN r.id
      WHEN w.owners = 1 THEN w.recipient_id
      ELSE '' END AS recipient_id,
    CASE
      WHEN rel.id IS NULL THEN 0
      WHEN lower(r.rcpt_key) = o.address THEN 3
      WHEN c.recipient_id = '' AND w.owners = 1 THEN 3
      WHEN c.recipient_id <> '' AND r.id IS NULL AND w.owners = 1 THEN 2
      WHEN r.id IS NOT NULL OR w.owners > 1 THEN 1
      ELSE 0
    END AS level,
    CASE WHEN r.id IS NULL AND w.owners > 1 THEN w.owners ELSE 1 END AS weight,
    CASE
      WHEN rel.id IS NULL THEN 'its release is not in the catalog'
      WHEN lower(r.rcpt_key) = o.address THEN ''
      WHEN r.id IS NOT NULL THEN 'its recipient has another address in the catalog'
      WHEN w.owners > 1 THEN 'several recipients have its address'
      WHEN w.owners = 1 AND c.recipient_id <> '' THEN 'its recipient is known by the address only'
      WHEN w.owners = 1 THEN ''
      ELSE 'its recipient is not in the catalog'
    END AS doubt,
    concat(
      c.evidence,
      CASE
        WHEN rel.id IS NULL THEN concat('; release ', c.release, ' is not in the catalog')
        WHEN lower(r.rcpt_key) = o.address THEN ''
        WHEN r.id IS NOT NULL THEN concat('; recipient ', r.id, ' has another address')
        WHEN w.owners > 1 THEN '; several recipients have this address'
        WHEN c.recipient_id <> '' AND w.owners = 1
          THEN concat('; recipient ', c.recipient_id, ' is not in the catalog, the address is that of ', w.recipient_id)
        WHEN w.owners IS NULL AND c.recipient_id <> '' THEN concat('; recipient ', c.recipient_id, ' is not in the catalog')
        WHEN w.owners IS NULL THEN '; the address is not in the catalog'
        ELSE ''
      END
    ) AS evidence
  FROM claim AS c
  JOIN outcome AS o ON o.outcome_id = c.outcome_id
  LEFT JOIN release AS rel ON rel.id = c.release
  LEFT JOIN recipient AS r ON r.id = c.recipient_id AND c.recipient_id <> ''
  LEFT JOIN owner AS w ON w.address = o.address
),
best AS (
  SELECT outcome_id, max(level) AS level FROM judged GROUP BY outcome_id
),
candidate AS (
  SELECT
    j.outcome_id,
    j.release,
    j.recipient_id,
    j.level,
    max(j.weight) AS weight,
    max(j.doubt) AS doubt,
    min(j.evidence) AS evidence
  FROM judged AS j
  JOIN best AS b ON b.outcome_id = j.outcome_id AND b.level = j.level
  GROUP BY j.outcome_id, j.release, j.recipient_id, j.level
),
counted AS (
  SELECT
    outcome_id,
    level,
    sum(weight) AS candidates,
    min(concat(release, ' ', recipient_id)) AS first
  FROM candidate
  GROUP BY outcome_id, level
)
SELECT
  c.outcome_id,
  c.release,
  c.recipient_id,
  CASE
    WHEN n.level = 0 THEN 'none'
    WHEN n.candidates > 1 OR n.level = 1 THEN 'ambiguous'
    WHEN n.level = 2 THEN 'probable'
    ELSE 'certain'
  END AS confidence,
  n.candidates,
  c.evidence,
  CASE WHEN c.doubt = '' AND n.candidates > 1 THEN 'several releases or recipients fit' ELSE c.doubt END AS doubt
FROM counted AS n
JOIN candidate AS c ON c.outcome_id = n.outcome_id AND concat(c.release, ' ', c.recipient_id) = n.first
