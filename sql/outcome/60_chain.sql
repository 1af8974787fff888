-- Purpose: every mail as the legs that it went through, from the queue id where it came in to its last. A mail that an
--   alias made several has a chain for each. At most seven hops; a longer chain ends there.
-- Parameters: none. Reads leg, step.
-- Columns: chain, depth, leg, last (0/1: the leg that has the last word), forked (0/1: its first leg has other ends, too).
WITH linked AS (
  SELECT leg, next_leg FROM step WHERE next_leg IS NOT NULL
),
walked AS (
  SELECT
    leg.leg AS l0, s1.next_leg AS l1, s2.next_leg AS l2, s3.next_leg AS l3, s4.next_leg AS l4, s5.next_leg AS l5,
    s6.next_leg AS l6, s7.next_leg AS l7
  FROM leg
  LEFT JOIN (SELECT DISTINCT next_leg FROM linked) AS inner_leg ON inner_leg.next_leg = leg.leg
  LEFT JOIN linked AS s1 ON s1.leg = leg.leg
  LEFT JOIN linked AS s2 ON s2.leg = s1.next_leg
  LEFT JOIN linked AS s3 ON s3.leg = s2.next_leg
  LEFT JOIN linked AS s4 ON s4.leg = s3.next_leg
  LEFT JOIN linked AS s5 ON s5.leg = s4.next_leg
  LEFT JOIN linked AS s6 ON s6.leg = s5.next_leg
  LEFT JOIN linked AS s7 ON s7.leg = s6.next_leg
  WHERE inner_leg.next_leg IS NULL
),
numbered AS (
  SELECT
    *,
    row_number() OVER (
      ORDER BY l0 ASC NULLS LAST, l1 ASC NULLS LAST, l2 ASC NULLS LAST, l3 ASC NULLS LAST, l4 ASC NULLS LAST,
        l5 ASC NULLS LAST, l6 ASC NULLS LAST, l7 ASC NULLS LAST
    ) AS chain,
    CASE WHEN count(*) OVER (PARTITION BY l0) > 1 THEN 1 ELSE 0 END AS forked
  FROM walked
),
everything AS (
  SELECT chain, 0 AS depth, l0 AS leg, forked, CASE WHEN l1 IS NULL THEN 1 ELSE 0 END AS last FROM numbered
  UNION ALL
  SELECT chain, 1, l1, forked, CASE WHEN l2 IS NULL THEN 1 ELSE 0 END FROM numbered WHERE l1 IS NOT NULL
  UNION ALL
  SELECT chain, 2, l2, forked, CASE WHEN l3 IS NULL THEN 1 ELSE 0 END FROM numbered WHERE l2 IS NOT NULL
  UNION ALL
  SELECT chain, 3, l3, forked, CASE WHEN l4 IS NULL THEN 1 ELSE 0 END FROM numbered WHERE l3 IS NOT NULL
  UNION ALL
  SELECT chain, 4, l4, forked, CASE WHEN l5 IS NULL THEN 1 ELSE 0 END FROM numbered WHERE l4 IS NOT NULL
  UNION ALL
  SELECT chain, 5, l5, forked, CASE WHEN l6 IS NULL THEN 1 ELSE 0 END FROM numbered WHERE l5 IS NOT NULL
  UNION ALL
  SELECT chain, 6, l6, forked, CASE WHEN l7 IS NULL THEN 1 ELSE 0 END FROM numbered WHERE l6 IS NOT NULL
  UNION ALL
  SELECT chain, 7, l7, forked, 1 FROM numbered WHERE l7 IS NOT NULL
)
SELECT chain, depth, leg, last, forked FROM everything
