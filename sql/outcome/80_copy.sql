-- Purpose: the status of each mail, and which mails are copies of one: the same message-id to the same recipient again,
--   but no resend of ours: what became of it says nothing of the original. Mail that came back after its delivery bounced.
--   Without a final word: in the newest queue snapshot it is still queued; a newer snapshot without it, a log gap since its
--   last line, or its whole queue lifetime gone by make it no_evidence; but what was tried in the last hours of the
--   evidence is still queued, however old: servers wait an hour or so between tries (Postfix 4,000 s, Exim up to 8 h).
--   Mail that a person deleted from the queue is gone like expired mail.
-- Parameters: queue_lifetime, until_us (the newest event), both microseconds. Reads mail, snapshot, loss_window.
-- Columns: those of mail; status (delivered, bounced, expired, still_queued, no_evidence), copy_of (number of the group of
--   copies).
WITH shot AS (
  SELECT host, max(taken_at) AS taken_at FROM snapshot GROUP BY host
),
queued AS (
  SELECT host, qid, lower(recipient) AS recipient, max(arrival) AS arrival, max(taken_at) AS taken_at
  FROM snapshot
  WHERE qid <> ''
  GROUP BY host, qid, lower(recipient)
),
lost AS (
  SELECT host, max(to_at) AS to_at FROM loss_window GROUP BY host
),
known AS (
  SELECT
    mail.chain,
    max(queued.taken_at) AS queued_at,
    max(coalesce(shot.taken_at, any_shot.taken_at)) AS looked_at,
    max(lost.to_at) AS lost_to
  FROM mail
  LEFT JOIN queued
    ON queued.qid = mail.last_qid
    AND queued.host IN (mail.last_host, '')
    AND queued.recipient IN (lower(mail.recipient), lower(mail.original))
    AND (queued.arrival >= mail.arrived_at - 60000000 OR queued.arrival IS NULL)
    AND (queued.arrival <= mail.at_us + 60000000 OR queued.arrival IS NULL)
  LEFT JOIN shot ON shot.host = mail.last_host
  LEFT JOIN shot AS any_shot ON any_shot.host = ''
  LEFT JOIN lost ON lost.host = mail.last_host
  GROUP BY mail.chain
),
judged AS (
  SELECT
    mail.*,
    known.queued_at,
    CASE
      WHEN mail.word = 'sent' THEN 'delivered'
      WHEN mail.word = 'bounced' THEN 'bounced'
      WHEN mail.word = 'handed' THEN 'no_evidence'
      WHEN mail.word = 'expired' OR mail.expired_at IS NOT NULL OR mail.deleted = 1 THEN 'expired'
      WHEN mail.removed_at IS NOT NULL THEN 'no_evidence'
      WHEN known.lost_to >= mail.at_us AND known.lost_to >= coalesce(known.queued_at, 0) THEN 'no_evidence'
      WHEN known.queued_at + 86400000000 > (SELECT until_us FROM params) THEN 'still_queued'
      WHEN known.looked_at > mail.at_us AND known.queued_at IS NULL THEN 'no_evidence'
      WHEN mail.arrived_at + (SELECT queue_lifetime FROM params) > (SELECT until_us FROM params) THEN 'still_queued'
      WHEN mail.at_us + 14400000000 > (SELECT until_us FROM params) THEN 'still_queued'  -- 4 h
      ELSE 'no_evidence'
    END AS status,
    CASE WHEN mail.message_id IN ('', '<>') OR mail.resent = 1 THEN CAST(mail.chain AS VARCHAR) ELSE mail.message_id END
      AS same_id,
    lower(mail.recipient) AS same_recipient
  FROM mail
  JOIN known ON known.chain = mail.chain
),
spaced AS (
  -- A Message-ID that comes again after a queue lifetime is another mail by a careless sender.
  SELECT
    *,
    max(at_us) OVER (
      PARTITION BY same_id, same_recipient
      ORDER BY arrived_at ASC NULLS LAST, chain ASC NULLS LAST
      ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
    ) AS before_us
  FROM judged
),
grouped AS (
  SELECT
    *,
    sum(CASE WHEN arrived_at > before_us + (SELECT queue_lifetime FROM params) THEN 1 ELSE 0 END) OVER (
      PARTITION BY same_id, same_recipient
      ORDER BY arrived_at ASC NULLS LAST, chain ASC NULLS LAST
      ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
    ) AS time_
  FROM spaced
),
reported AS (
  SELECT *, max(returned_at) OVER (PARTITION BY same_id, same_recipient, time_) AS back_at FROM grouped
)
SELECT
  chain, message_id, sender, recipient, original, header, subject, arrived_at, first_failed_at, at_us, delivered_at, returned_at,
  expired_at, removed_at, deleted, attempts, maybe_delivered, word, failed, relay, relay_ip, code, enhanced, reply, host,
  instance, qid, epoch, resent, null_sender, last_host, last_qid, path, part, line,
  CASE
    WHEN status = 'delivered' AND back_at >= delivered_at THEN 'bounced'
    WHEN status = 'still_queued' AND back_at >= at_us AND back_at >= coalesce(queued_at, 0) THEN 'bounced'
    ELSE status
  END AS status,
  dense_rank() OVER (ORDER BY same_id ASC NULLS LAST, same_recipient ASC NULLS LAST, time_ ASC NULLS LAST) AS copy_of
FROM reported
