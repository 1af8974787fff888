-- Purpose: what decides the bucket of each affected mail, as things stand now: the frozen verdict, the copies of the same
--   mail, what was resent, what must not be sent, the content.
-- Parameters: now_us BIGINT, microseconds UTC. Reads frozen, release, veto(kind, subject, reason, scope, evidence),
--   left_queue(outcome_id: taken out of a mail host's queue, by a confirmed hold or deletion), bodiless(release, message_id),
--   key_of(outcome_id, key, standing_key, folded, generation, state, fate).
-- Columns: outcome_id, then the facts; generation is the one that a new Delivery would get.
WITH linked AS (
  SELECT
    f.outcome_id,
    f.release,
    f.rcpt_key,
    row_number() OVER (
      PARTITION BY f.release, f.rcpt_key
      ORDER BY
        CASE WHEN f.status = 'delivered_late' THEN 1 WHEN f.status = 'still_queued' AND q.outcome_id IS NULL THEN 2 ELSE 3 END,
        CASE WHEN f.maybe_delivered THEN 1 ELSE 2 END,
        CASE f.confidence WHEN 'certain' THEN 1 ELSE 2 END,
        CASE f.action WHEN 'never' THEN 1 WHEN 'ask' THEN 2 WHEN 'wait' THEN 3 ELSE 4 END,  -- what stops one stops both
        f.arrived_at NULLS LAST,
        f.outcome_id
    ) AS copy
  FROM frozen AS f
  LEFT JOIN left_queue AS q ON q.outcome_id = f.outcome_id
  WHERE f.recipient_id <> '' AND f.confidence IN ('certain', 'probable')
),
address_veto AS (
  SELECT f.outcome_id, min(v.evidence) AS evidence
  FROM frozen AS f
  JOIN key_of AS k ON k.outcome_id = f.outcome_id
  JOIN veto AS v ON v.kind = 'address' AND v.subject = k.folded
  WHERE v.scope IN ('', 'all', concat('customer:', f.customer), concat('release:', f.release))
  GROUP BY f.outcome_id
),
subject AS (
  -- of an ambiguous mail release and recipient may be another mail's
  SELECT k.outcome_id, 'delivery' AS kind, k.key AS subject
  FROM key_of AS k
  JOIN frozen AS f ON f.outcome_id = k.outcome_id AND f.confidence IN ('certain', 'probable')
  UNION ALL
  SELECT outcome_id, 'delivery' AS kind, standing_key AS subject FROM key_of WHERE standing_key <> ''
  UNION ALL
  SELECT outcome_id, 'release' AS kind, release AS subject FROM frozen WHERE release <> ''
  UNION ALL
  SELECT outcome_id, 'customer' AS kind, customer AS subject FROM frozen WHERE customer <> ''
  UNION ALL
  SELECT outcome_id, 'domain' AS kind, domain AS subject FROM frozen
  UNION ALL
  SELECT outcome_id, 'provider' AS kind, provider AS subject FROM frozen
),
other_veto AS (
  SELECT
    s.outcome_id,
    max(CASE WHEN v.reason = 'withdrawn' THEN 1 ELSE 0 END) AS withdrawn,
    max(CASE WHEN v.reason = 'expired' THEN 1 ELSE 0 END) AS expired,
    max(CASE WHEN v.reason = 'held' THEN 1 ELSE 0 END) AS held,
    max(CASE WHEN v.reason = 'suppressed' THEN 1 ELSE 0 END) AS suppressed,
    max(CASE WHEN v.reason = 'delivered' THEN 1 ELSE 0 END) AS delivered
  FROM subject AS s
  JOIN veto AS v ON v.kind = s.kind AND v.subject = s.subject
  GROUP BY s.outcome_id
)
SELECT
  f.outcome_id,
  (coalesce(l.copy, 1) > 1 OR f.copy_delivered) AS folded,
  k.state AS past_state,
  k.fate AS past_fate,
  k.generation,
  CASE WHEN q.outcome_id IS NOT NULL AND f.status = 'still_queued' THEN 'expired' ELSE f.status END AS status,
  f.maybe_delivered,
  f.confidence,
  f.doubt,
  f.cause,
  f.action,
  f.verdict_rule,
  f.verdict_reason,
  a.outcome_id IS NOT NULL OR coalesce(o.suppressed, 0) = 1 AS suppressed,
  coalesce(o.withdrawn, 0) = 1 AS withdrawn,
  coalesce(o.expired, 0) = 1 AS expired,
  coalesce(o.held, 0) = 1 AS held,
  coalesce(o.delivered, 0) = 1 AS arrived,
  coalesce(rel.embargo_at > params.now_us, false) AS embargo,
  coalesce(f.not_before > params.now_us, false) AS too_early,
  b.release IS NULL AS content
FROM frozen AS f
CROSS JOIN params
LEFT JOIN linked AS l ON l.outcome_id = f.outcome_id
JOIN key_of AS k ON k.outcome_id = f.outcome_id
LEFT JOIN address_veto AS a ON a.outcome_id = f.outcome_id
LEFT JOIN other_veto AS o ON o.outcome_id = f.outcome_id
LEFT JOIN release AS rel ON rel.id = f.release
LEFT JOIN left_queue AS q ON q.outcome_id = f.outcome_id
LEFT JOIN bodiless AS b ON b.release = f.release AND b.message_id = f.message_id
