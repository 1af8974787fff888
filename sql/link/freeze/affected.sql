-- Purpose: the affected mails of a window with provider, cause, link and what the catalog says of them: everything that
--   an incident freezes but the verdict. Resends of ours are left out.
-- Parameters: from_us, to_us BIGINT (arrival; NULL unbounded), provider, cause, release, customer VARCHAR ('' all).
--   Reads suspect, suspect_key, outcome, provider_of, cause_of, link, sent, release, recipient,
--   copy_arrived(release, rcpt_key, late).
-- Columns: those of suspect (rcpt_key filled in), then provider ... envelope_from as below; in_selection says whether the
--   mail belongs to the incident, or only helps to see that one reply hit many.
WITH named AS (
  SELECT outcome_id, bare_id, address FROM outcome
  UNION
  SELECT outcome_id, qid AS bare_id, address FROM outcome WHERE qid <> ''
),
posted AS (
  SELECT
    o.outcome_id,
    min(s.sent_at) AS sent_at,
    min(s.envelope) AS envelope
  FROM named AS o
  JOIN link AS l ON l.outcome_id = o.outcome_id
  JOIN sent AS s ON s.bare_id = o.bare_id AND s.address = o.address AND s.release = l.release
  GROUP BY o.outcome_id
),
delivered AS (
  SELECT l.release, r.rcpt_key, CASE WHEN s.status = 'delivered' THEN 0 ELSE 1 END AS late
  FROM suspect AS s
  JOIN link AS l ON l.outcome_id = s.outcome_id
  JOIN recipient AS r ON r.id = l.recipient_id
  WHERE s.status IN ('delivered', 'delivered_late') AND l.confidence = 'certain' AND l.rule <> '00_own_try'
  UNION ALL
  SELECT release, rcpt_key, late FROM copy_arrived
),
arrived AS (
  SELECT release, rcpt_key, min(late) AS late FROM delivered GROUP BY release, rcpt_key
)
SELECT
  s.outcome_id,
  s.message_id,
  s.sender,
  s.recipient,
  coalesce(r.rcpt_key, k.rcpt_key) AS rcpt_key,
  s.domain,
  s.status,
  (coalesce(s.maybe_delivered, false) OR c.maybe) AS maybe_delivered,
  s.arrived_at,
  s.first_failed_at,
  s.at,
  s.delivered_at,
  s.attempts,
  s.relay,
  s.relay_ip,
  s.code,
  s.enhanced,
  s.reply,
  s.stage,
  s.host,
  s.instance,
  s.qid,
  s.epoch,
  s.last_host,
  s.last_qid,
  s.header_value,
  s.chain,
  s.evidence,
  p.provider,
  p.way AS provider_way,
  c.cause,
  c.rule AS cause_rule,
  c.scope,
  c.retry_after,
  c.wording,
  l.release,
  l.recipient_id,
  l.rule AS link_rule,
  l.confidence,
  l.candidates,
  l.evidence AS link_evidence,
  l.doubt,
  coalesce(rel.customer, '') AS customer,
  coalesce(rel.customer_name, '') AS customer_name,
  coalesce(rel.title, '') AS title,
  coalesce(rel.sender, '') AS header_from,
  coalesce(rel.urgency, 5) AS urgency,
  rel.expires_at,
  posted.sent_at,
  coalesce(r.address, s.recipient) AS rcpt,
  CASE
    WHEN posted.envelope <> '' THEN posted.envelope
    WHEN rel.envelope_from <> '' THEN rel.envelope_from
    ELSE s.sender
  END AS envelope_from,
  -- a late one needs no other that was late
  (arrived.release IS NOT NULL AND (arrived.late = 0 OR s.status <> 'delivered_late')) AS copy_delivered,
  (
    (params.provider = '' OR p.provider = params.provider)
    AND (params.cause = '' OR c.cause = params.cause)
    AND (params.release = '' OR l.release = params.release)
    AND (params.customer = '' OR rel.customer = params.customer)
  ) AS in_selection
FROM suspect AS s
CROSS JOIN params
JOIN suspect_key AS k ON k.outcome_id = s.outcome_id
JOIN provider_of AS p ON p.relay = s.relay AND p.relay_ip = s.relay_ip AND p.domain = s.domain
JOIN cause_of AS c
  ON c.reply = s.reply AND c.code = s.code AND c.enhanced = s.enhanced AND c.provider = p.provider AND c.stage = s.stage
JOIN link AS l ON l.outcome_id = s.outcome_id
LEFT JOIN posted ON posted.outcome_id = s.outcome_id
LEFT JOIN release AS rel ON rel.id = l.release
LEFT JOIN recipient AS r ON r.id = l.recipient_id AND l.recipient_id <> ''
LEFT JOIN arrived
  ON arrived.release = l.release AND arrived.rcpt_key = r.rcpt_key AND l.confidence IN ('certain', 'probable')
WHERE s.status NOT IN ('delivered', 'no_evidence')
  AND l.rule <> '00_own_try'
  AND (params.from_us IS NULL OR coalesce(s.arrived_at, s.first_failed_at) >= params.from_us)
  AND (params.to_us IS NULL OR coalesce(s.arrived_at, s.first_failed_at) < params.to_us)
