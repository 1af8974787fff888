-- Purpose: how the attempts of the newest evidence went, by quarter of an hour back from its end, domain and receiving host.
--   Left out: hand-overs to ourselves; copies of another mail's failure (`delivery temporarily suspended`, no attempt was
--   made); deferrals about one mailbox (x.2.x: full, locked), which say nothing of the receiver and come again at each retry.
-- Parameters: from_us, until_us (of the evidence to look at), microseconds UTC. Reads events, own_host(address).
-- Columns: slot (0: the last 15 minutes), domain, relay, relay_ip (where the line names none: the receiver that the reply
--   names), tries, deferred, refused, fresh_tries, fresh_failed (of mail that came within the four
--   minutes before: no retries, which mail hosts make after five), last_failed_at, last_sent_at (NULL: none).
WITH attempt AS (
  SELECT
    (params.until_us - events.at_us) - (params.until_us - events.at_us) % 900000000 AS back_us,
    lower(split_part(events.recipient, '@', -1)) AS domain,
    events.relay,
    events.relay_ip,
    events.at_us,
    events.reply,
    events.enhanced,
    CASE WHEN coalesce(events.delay, 0) <= 240000000 THEN 1 ELSE 0 END AS fresh,
    CASE
      WHEN events.status = 'sent' THEN 'sent'
      WHEN events.status IN ('bounced', 'expired', 'force-expired', 'returned') THEN 'refused'
      ELSE 'deferred'
    END AS word,
    CASE
      WHEN position('connect to ' IN events.reply) = 1 THEN split_part(events.reply, 'connect to ', 2)
      WHEN position('host ' IN events.reply) = 1 THEN split_part(events.reply, 'host ', 2)
      WHEN position('lost connection with ' IN events.reply) = 1 THEN split_part(events.reply, 'lost connection with ', 2)
      WHEN position('conversation with ' IN events.reply) = 1 THEN split_part(events.reply, 'conversation with ', 2)
      ELSE ''
    END AS naming
  FROM events
  CROSS JOIN params
  LEFT JOIN own_host AS by_ip ON by_ip.address = events.relay_ip
  LEFT JOIN own_host AS by_name ON by_name.address = events.relay
  LEFT JOIN own_host AS by_port ON by_port.address = concat(events.relay_ip, ':', CAST(events.relay_port AS VARCHAR))
  WHERE events.kind = 'attempt'
    AND events.status NOT IN ('deliverable', 'undeliverable')
    AND events.at_us BETWEEN params.from_us AND params.until_us
    AND by_ip.address IS NULL
    AND by_name.address IS NULL
    AND by_port.address IS NULL
    AND NOT (events.relay IN ('none', '') AND position('delivery temporarily suspended' IN events.reply) > 0)
    AND NOT (events.status = 'sent' AND events.relay_ip = '' AND events.next_qid <> '')
)
SELECT
  CAST(back_us / 900000000 AS BIGINT) AS slot,
  domain,
  CASE
    WHEN relay_ip = '' AND relay IN ('none', '') AND position('[' IN naming) > 1
      AND position(' ' IN split_part(naming, '[', 1)) = 0 THEN lower(split_part(naming, '[', 1))
    ELSE relay
  END AS relay,
  CASE
    WHEN relay_ip = '' AND relay IN ('none', '') AND position('[' IN naming) > 1
      AND position(' ' IN split_part(naming, '[', 1)) = 0 THEN split_part(split_part(naming, '[', 2), ']', 1)
    ELSE relay_ip
  END AS relay_ip,
  count(*) AS tries,
  sum(CASE WHEN word = 'deferred' THEN 1 ELSE 0 END) AS deferred,
  sum(CASE WHEN word = 'refused' THEN 1 ELSE 0 END) AS refused,
  sum(fresh) AS fresh_tries,
  sum(CASE WHEN word <> 'sent' THEN fresh ELSE 0 END) AS fresh_failed,
  max(CASE WHEN word <> 'sent' THEN at_us END) AS last_failed_at,
  max(CASE WHEN word = 'sent' THEN at_us END) AS last_sent_at
FROM attempt
WHERE NOT (word = 'deferred' AND position('.2.' IN enhanced) = 2)
GROUP BY 1, 2, 3, 4
