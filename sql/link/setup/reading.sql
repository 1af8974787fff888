-- Purpose: what the configured templates say of a text: release and recipient. An id may hold the text between the two,
--   so the recipient at the logged address is tried first; only then the text is cut at its first separator.
-- Parameters: none. Reads named(outcome_id, source, text, address, evidence), recipient and template(source, prefix,
--   prefix_length, infix, suffix, parts: 'release', 'release recipient' or 'recipient release').
-- Columns: source, outcome_id, release, recipient_id ('' where the template names none), evidence.
WITH begun AS (
  SELECT
    n.outcome_id,
    n.source,
    n.text,
    n.address,
    n.evidence,
    t.prefix,
    t.prefix_length,
    t.infix,
    t.suffix,
    t.parts
  FROM named AS n
  JOIN template AS t ON t.source = n.source
  WHERE n.text <> '' AND substring(n.text, 1, t.prefix_length) = t.prefix
),
at_address AS (
  SELECT
    b.*,
    r.id AS recipient_id,
    substring(
      b.text,
      b.prefix_length + 1,
      position(concat(b.infix, r.id, b.suffix) IN b.text) - b.prefix_length - 1
    ) AS release
  FROM begun AS b
  JOIN recipient AS r ON lower(r.rcpt_key) = b.address
  WHERE b.parts = 'release recipient' AND position(concat(b.infix, r.id, b.suffix) IN b.text) > b.prefix_length + 1
),
found AS (
  SELECT source, outcome_id, release, recipient_id, evidence
  FROM at_address
  WHERE concat(prefix, release, infix, recipient_id, suffix) = text
),
cut AS (
  SELECT
    b.*,
    split_part(substring(b.text, b.prefix_length + 1), CASE WHEN b.infix = '' THEN b.suffix ELSE b.infix END, 1) AS first
  FROM begun AS b
  LEFT JOIN found AS f ON f.source = b.source AND f.outcome_id = b.outcome_id
  WHERE f.outcome_id IS NULL
),
halves AS (
  SELECT
    cut.*,
    CASE WHEN parts = 'release' THEN ''
      ELSE split_part(substring(text, position(concat(prefix, first, infix) IN text) + length(concat(prefix, first, infix))), suffix, 1)
    END AS second
  FROM cut
)
SELECT source, outcome_id, release, recipient_id, evidence FROM found
UNION ALL
SELECT
  source,
  outcome_id,
  CASE WHEN parts = 'recipient release' THEN second ELSE first END AS release,
  CASE WHEN parts = 'recipient release' THEN first ELSE second END AS recipient_id,
  evidence
FROM halves
WHERE first <> ''
  AND (
    (parts = 'release' AND concat(prefix, first, suffix) = text)
    OR (parts <> 'release' AND second <> '' AND concat(prefix, first, infix, second, suffix) = text)
  )
