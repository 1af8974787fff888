-- Purpose: what the catalog says must not be sent: suppressed and unsubscribed addresses, withdrawn and out-of-date
--   releases.
-- Parameters: now_us BIGINT, microseconds UTC.
-- Columns: kind (model.VetoKind), subject, reason (model.VetoReason), scope, evidence; one row for each combination.
SELECT 'address' AS kind, folded AS subject, 'suppressed' AS reason, scope, min(concat('suppression: ', reason)) AS evidence
FROM suppression
GROUP BY folded, scope
UNION ALL
SELECT 'address' AS kind, r.folded AS subject, 'suppressed' AS reason, '' AS scope, concat('unsubscribed: recipient ', min(r.id))
  AS evidence
FROM recipient AS r
LEFT JOIN suppression AS s ON s.folded = r.folded AND s.scope = ''
CROSS JOIN params
WHERE r.unsubscribed_at <= params.now_us AND s.folded IS NULL
GROUP BY r.folded
UNION ALL
SELECT 'release' AS kind, id AS subject, 'withdrawn' AS reason, '' AS scope, 'catalog: withdrawn' AS evidence
FROM release
WHERE withdrawn
UNION ALL
SELECT 'release' AS kind, id AS subject, 'expired' AS reason, '' AS scope, 'catalog: expires_at has passed' AS evidence
FROM release
CROSS JOIN params
WHERE expires_at <= params.now_us
