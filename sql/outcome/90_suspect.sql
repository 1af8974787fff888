-- Purpose: the last word on each (message, recipient) that was not delivered at once.
--   delivered_late counts from arrival. Without a final word: in the newest queue snapshot it is still queued; a snapshot
--   without it, a log gap since its last line, or its whole queue lifetime gone by make it no_evidence.
-- Parameters: late_after, queue_lifetime, until_us (the newest event), all microseconds; all_mail 0/1 (1: also what
--   never failed). Reads mail, elsewhere, snapshot,
--   loss_window, part_source.
-- Columns: outcome_id, message_id, sender, recipient, domain, status, maybe_delivered, arrived_at, first_failed_at, at,
--   delivered_at, attempts, relay, relay_ip, code, enhanced, reply, stage, host, instance, qid, epoch, last_host,
--   last_qid, header_value, chain, evidence.
WITH shot AS (
  SELECT host, max(taken_at) AS taken_at FROM snapshot GROUP BY host
),
queued AS (
  SELECT DISTINCT host, qid FROM snapshot WHERE qid <> ''
),
known AS (
  SELECT
    mail.*,
    coalesce(mail.delivered_at, elsewhere.delivered_at) AS arrived_there,
    CASE WHEN queued.qid IS NOT NULL THEN 1 ELSE 0 END AS in_queue,
    CASE WHEN coalesce(shot.taken_at, any_shot.taken_at, 0) > mail.at_us THEN 1 ELSE 0 END AS looked,
    CASE WHEN lost.host IS NOT NULL THEN 1 ELSE 0 END AS gap
  FROM mail
  LEFT JOIN elsewhere
    ON elsewhere.message_id = mail.message_id AND elsewhere.recipient = lower(mail.recipient)
    AND mail.message_id NOT IN ('', '<>')
  LEFT JOIN queued ON queued.qid = mail.last_qid AND queued.host IN (mail.last_host, '')
  LEFT JOIN shot ON shot.host = mail.last_host
  LEFT JOIN shot AS any_shot ON any_shot.host = ''
  LEFT JOIN (SELECT host, max(to_at) AS to_at FROM loss_window GROUP BY host) AS lost
    ON lost.host = mail.last_host AND lost.to_at >= mail.at_us
),
judged AS (
  SELECT
    *,
    CASE
      WHEN arrived_there IS NOT NULL THEN
        CASE WHEN arrived_there - arrived_at > (SELECT late_after FROM params) THEN 'delivered_late' ELSE 'delivered' END
      WHEN word = 'bounced' THEN 'bounced'
      WHEN expired_at IS NOT NULL THEN 'expired'
      WHEN handed = 1 THEN 'no_evidence'
      WHEN in_queue = 1 AND removed_at IS NULL THEN 'still_queued'
      WHEN removed_at IS NOT NULL OR looked = 1 OR gap = 1 THEN 'no_evidence'
      WHEN arrived_at + (SELECT queue_lifetime FROM params) > (SELECT until_us FROM params) THEN 'still_queued'
      ELSE 'no_evidence'
    END AS status
  FROM known
  WHERE failed = 1
    OR arrived_there - arrived_at > (SELECT late_after FROM params)
    OR (SELECT all_mail FROM params) = 1
),
merged AS (
  SELECT
    *,
    row_number() OVER (
      PARTITION BY
        CASE WHEN message_id IN ('', '<>') THEN CAST(root AS VARCHAR) ELSE message_id END,
        split_part(recipient, '@', 1),
        lower(split_part(recipient, '@', 2))
      ORDER BY
        CASE
          WHEN status = 'delivered' THEN 0
          WHEN status = 'delivered_late' THEN 1
          WHEN status = 'still_queued' THEN 2
          ELSE 3
        END,
        at_us DESC NULLS LAST,
        root
    ) AS choice
  FROM judged
)
SELECT
  row_number() OVER (
    ORDER BY arrived_at ASC NULLS LAST, merged.host, merged.instance, merged.qid, merged.epoch, merged.recipient
  ) AS outcome_id,
  message_id,
  sender,
  CASE WHEN original <> '' AND position('@' IN original) > 0 THEN original ELSE recipient END AS recipient,
  lower(split_part(
    CASE WHEN original <> '' AND position('@' IN original) > 0 THEN original ELSE recipient END, '@', 2)) AS domain,
  status,
  CASE WHEN maybe_delivered = 1 AND status NOT IN ('delivered', 'delivered_late') THEN true ELSE false END AS maybe_delivered,
  arrived_at,
  first_failed_at,
  CASE
    WHEN arrived_there IS NOT NULL THEN arrived_there
    WHEN status = 'expired' THEN expired_at
    ELSE at_us
  END AS at,
  arrived_there AS delivered_at,
  CASE WHEN attempts < 1 THEN 1 ELSE attempts END AS attempts,
  CASE WHEN relay = 'none' THEN '' ELSE coalesce(relay, '') END AS relay,
  coalesce(relay_ip, '') AS relay_ip,
  coalesce(code, 0) AS code,
  coalesce(enhanced, '') AS enhanced,
  coalesce(reply, '') AS reply,
  CASE
    WHEN position('(in reply to RCPT TO' IN reply) > 0 THEN 'rcpt'
    WHEN position('(in reply to MAIL FROM' IN reply) > 0 THEN 'mail'
    WHEN position('(in reply to end of DATA' IN reply) > 0 THEN 'dot'
    WHEN position('(in reply to DATA' IN reply) > 0 THEN 'data'
    WHEN position('(in reply to EHLO' IN reply) > 0 OR position('(in reply to HELO' IN reply) > 0 THEN 'ehlo'
    WHEN position('connect to ' IN reply) = 1 OR position('refused to talk to me' IN reply) > 0 THEN 'connect'
    ELSE ''
  END AS stage,
  merged.host,
  instance,
  qid,
  epoch,
  last_host,
  last_qid,
  CASE
    WHEN position(': ' IN header) > 0 AND position(' from ' IN header) > 0
      THEN substring(split_part(header, ' from ', 1), position('header ' IN header) + 7)
    ELSE header
  END AS header_value,
  CASE WHEN hops = 0 THEN qid ELSE concat(qid, '>', last_qid) END AS chain,
  concat(part_source.file, ':', CAST(part_source.first_line + merged.line - 1 AS VARCHAR)) AS evidence
FROM merged
LEFT JOIN part_source ON part_source.part = merged.part
WHERE choice = 1
ORDER BY outcome_id
