-- Purpose: every step of a mail from one queue id of ours to the next: a content filter, a relay of ours, an alias, a
--   requeued message. `status=sent` to ourselves is no delivery; it is followed here.
-- Parameters: none. Reads events, own_host(address).
-- Columns: kind (attempt, begin, requeue), host, instance, qid, recipient ('' all), at_us, next_host ('' unknown),
--   next_qid.
SELECT
  events.kind,
  events.host,
  events.instance,
  events.qid,
  events.recipient,
  events.at_us,
  CASE WHEN events.relay_ip IN ('', '127.0.0.1', '::1') THEN events.host ELSE '' END AS next_host,
  events.next_qid
FROM events
LEFT JOIN own_host AS by_ip ON by_ip.address = events.relay_ip
LEFT JOIN own_host AS by_name ON by_name.address = events.relay
LEFT JOIN own_host AS by_port ON by_port.address = concat(events.relay_ip, ':', CAST(events.relay_port AS VARCHAR))
WHERE events.kind = 'attempt'
  AND events.status = 'sent'
  AND events.next_qid <> ''
  AND (
    by_ip.address IS NOT NULL
    OR by_name.address IS NOT NULL
    OR by_port.address IS NOT NULL
    OR events.relay_ip = ''
  )
UNION ALL
SELECT kind, host, instance, next_qid AS qid, '' AS recipient, at_us, host AS next_host, qid AS next_qid
FROM events
WHERE kind IN ('requeue', 'begin') AND next_qid <> '' AND next_qid <> qid
