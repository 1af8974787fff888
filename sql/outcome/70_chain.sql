-- Purpose: every mail as the legs that it went through, from the queue id where it came in (root) to its last.
--   At most six hops; a longer chain ends there.
-- Parameters: none. Reads leg, step.
-- Columns: root, depth, leg, last (0/1: the leg that has the last word).
WITH roots AS (
  SELECT leg.leg AS root
  FROM leg
  LEFT JOIN step ON step.next_leg = leg.leg
  WHERE step.leg IS NULL
),
h1 AS (SELECT roots.root, step.next_leg AS leg FROM roots JOIN step ON step.leg = roots.root),
h2 AS (SELECT h1.root, step.next_leg AS leg FROM h1 JOIN step ON step.leg = h1.leg),
h3 AS (SELECT h2.root, step.next_leg AS leg FROM h2 JOIN step ON step.leg = h2.leg),
h4 AS (SELECT h3.root, step.next_leg AS leg FROM h3 JOIN step ON step.leg = h3.leg),
h5 AS (SELECT h4.root, step.next_leg AS leg FROM h4 JOIN step ON step.leg = h4.leg),
everything AS (
  SELECT root, 0 AS depth, root AS leg FROM roots
  UNION ALL SELECT root, 1, leg FROM h1
  UNION ALL SELECT root, 2, leg FROM h2
  UNION ALL SELECT root, 3, leg FROM h3
  UNION ALL SELECT root, 4, leg FROM h4
  UNION ALL SELECT root, 5, leg FROM h5
)
SELECT
  root,
  depth,
  leg,
  CASE WHEN row_number() OVER (PARTITION BY root ORDER BY depth DESC, leg) = 1 THEN 1 ELSE 0 END AS last
FROM everything
