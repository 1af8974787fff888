-- Purpose: when the mail arrived that kept failing since an incident began: what its selection must take in. Mail that first
--   failed before and was tried in vain during it belongs to it; deferrals about one mailbox (x.2.x) do not.
-- Parameters: none. Reads suspect (sql/outcome/90_suspect), provider_of(relay, relay_ip, domain, provider), begun(provider,
--   from_us: begin of its first bad hour, to_us: end of its last).
-- Columns: provider, mails, first_at, last_at (arrival, microseconds UTC).
SELECT p.provider, count(*) AS mails, min(s.arrived_at) AS first_at, max(s.arrived_at) AS last_at
FROM suspect AS s
JOIN provider_of AS p ON p.relay = s.relay AND p.relay_ip = s.relay_ip AND p.domain = s.domain
JOIN begun AS b ON b.provider = p.provider
WHERE s.first_failed_at <= b.to_us AND s.at >= b.from_us AND s.status <> 'delivered' AND position('.2.' IN s.enhanced) <> 2
GROUP BY p.provider
ORDER BY p.provider
