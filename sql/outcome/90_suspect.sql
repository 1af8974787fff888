-- Purpose: the last word on each (message, recipient) that was not delivered at once. A delivery of any copy counts before
--   everything, then a copy that is still queued, then the latest word; the rest is told by the first copy that failed.
--   delivered_late counts from arrival. Bounce mails (without a sender) are nobody's to send again.
-- Parameters: late_after (microseconds); all_mail 0/1 (1: also what never failed, bounce mails of others, and resends of ours). Reads copy, part_source(part, file,
--   first_line).
-- Columns: outcome_id, message_id, sender, recipient (as the sender wrote it: before aliases), domain, status,
--   maybe_delivered, arrived_at, first_failed_at, at, delivered_at, attempts, relay, relay_ip, code, enhanced, reply, stage,
--   host, instance, qid, epoch, last_host, last_qid, header_value, chain, evidence, mailbox (the recipient of the delivery
--   lines: after aliases), accepted (0/1: by the receiver, whatever came after),
--   subject (`Subject: ...` as it was logged or came back with a bounce).
WITH ranked AS (
  SELECT
    *,
    row_number() OVER (
      PARTITION BY copy_of
      ORDER BY
        CASE WHEN status = 'delivered' THEN 0 WHEN status = 'still_queued' THEN 1 ELSE 2 END ASC NULLS LAST,
        CASE WHEN status = 'delivered' THEN delivered_at ELSE -at_us END ASC NULLS LAST,
        chain ASC NULLS LAST
    ) AS verdict,
    row_number() OVER (
      PARTITION BY copy_of
      ORDER BY failed DESC NULLS LAST, arrived_at ASC NULLS LAST, chain ASC NULLS LAST
    ) AS teller,
    row_number() OVER (
      PARTITION BY copy_of
      ORDER BY failed DESC NULLS LAST, CASE WHEN reply = '' THEN 1 ELSE 0 END ASC NULLS LAST, at_us DESC NULLS LAST,
        chain ASC NULLS LAST
    ) AS cause
  FROM copy
),
folded AS (
  SELECT
    copy_of,
    max(CASE WHEN verdict = 1 THEN status END) AS status,
    max(CASE WHEN verdict = 1 THEN at_us END) AS last_at,
    max(CASE WHEN verdict = 1 AND status = 'delivered' THEN delivered_at END) AS delivered_at,
    max(CASE WHEN verdict = 1 THEN expired_at END) AS expired_at,
    max(CASE WHEN verdict = 1 THEN last_host END) AS last_host,
    max(CASE WHEN verdict = 1 THEN last_qid END) AS last_qid,
    min(arrived_at) AS arrived_at,
    min(first_failed_at) AS first_failed_at,
    CASE WHEN sum(attempts) = 0 AND max(returned_at) IS NOT NULL THEN 1 ELSE sum(attempts) END AS attempts,
    max(CASE WHEN word = 'sent' THEN 1 ELSE 0 END) AS accepted,
    max(maybe_delivered) AS maybe_delivered,
    max(failed) AS failed,
    max(CASE WHEN teller = 1 THEN chain END) AS chain,
    max(CASE WHEN cause = 1 THEN chain END) AS cause_chain
  FROM ranked
  GROUP BY copy_of
),
late AS (
  SELECT
    *,
    CASE WHEN status = 'delivered' AND delivered_at - arrived_at > (SELECT late_after FROM params) THEN 1 ELSE 0 END AS late
  FROM folded
)
SELECT
  row_number() OVER (
    ORDER BY late.arrived_at ASC NULLS LAST, copy.host ASC NULLS LAST, copy.instance ASC NULLS LAST, copy.qid ASC NULLS LAST,
      copy.epoch ASC NULLS LAST, copy.recipient ASC NULLS LAST, late.copy_of ASC NULLS LAST
  ) AS outcome_id,
  copy.message_id,
  copy.sender,
  copy.original AS recipient,
  lower(split_part(copy.recipient, '@', -1)) AS domain,
  CASE WHEN late.late = 1 THEN 'delivered_late' ELSE late.status END AS status,
  CASE WHEN late.maybe_delivered = 1 AND late.status <> 'delivered' THEN true ELSE false END AS maybe_delivered,
  late.arrived_at,
  late.first_failed_at,
  CASE
    WHEN late.status = 'delivered' THEN late.delivered_at
    WHEN late.status = 'expired' THEN coalesce(late.expired_at, late.last_at)
    ELSE late.last_at
  END AS at,
  late.delivered_at,
  CAST(late.attempts AS INTEGER) AS attempts,
  cause.relay,
  cause.relay_ip,
  cause.code,
  cause.enhanced,
  cause.reply,
  CASE
    WHEN position('(in reply to RCPT TO' IN cause.reply) > 0 OR position('while sending RCPT TO' IN cause.reply) > 0
      OR position('after RCPT TO:' IN cause.reply) > 0 OR position('pipelined RCPT TO:' IN cause.reply) > 0
      OR position('in response to RCPT TO:' IN cause.reply) > 0
      THEN 'rcpt'
    WHEN position('(in reply to MAIL FROM' IN cause.reply) > 0 OR position('while sending MAIL FROM' IN cause.reply) > 0
      OR position('after MAIL FROM:' IN cause.reply) > 0 OR position('pipelined MAIL FROM:' IN cause.reply) > 0
      OR position('in response to MAIL FROM:' IN cause.reply) > 0
      THEN 'mail'
    WHEN position('(in reply to end of DATA' IN cause.reply) > 0 OR position('while sending end of data' IN cause.reply) > 0
      OR position('after end of data' IN cause.reply) > 0 OR position('in response to end of data' IN cause.reply) > 0
      OR position('during client DATA status' IN cause.reply) > 0
      THEN 'dot'
    WHEN position('(in reply to DATA' IN cause.reply) > 0 OR position('while sending DATA' IN cause.reply) > 0
      OR position('remote mail server after DATA:' IN cause.reply) > 0 OR position('pipelined DATA:' IN cause.reply) > 0 THEN 'data'
    WHEN position('while sending message body' IN cause.reply) > 0 OR position('sending data block' IN cause.reply) > 0 THEN 'body'
    WHEN position('(in reply to EHLO' IN cause.reply) > 0 OR position('(in reply to HELO' IN cause.reply) > 0
      OR position('while performing the' IN cause.reply) > 0 OR position('mail server after EHLO' IN cause.reply) > 0
      OR position('mail server after HELO' IN cause.reply) > 0 OR position('in response to EHLO' IN cause.reply) > 0 THEN 'ehlo'
    WHEN position('connect to ' IN cause.reply) > 0 OR position('refused to talk to me' IN cause.reply) > 0
      OR position('while receiving the initial server greeting' IN cause.reply) > 0
      OR position('after initial connection' IN cause.reply) > 0 OR position('to initial connection' IN cause.reply) > 0
      OR position('Connection refused' IN cause.reply) IN (1, 11) OR position('Connection timed out' IN cause.reply) = 1 THEN 'connect'
    ELSE ''
  END AS stage,
  copy.host,
  copy.instance,
  copy.qid,
  CAST(copy.epoch AS INTEGER) AS epoch,
  late.last_host,
  late.last_qid,
  substring(copy.header, 8) AS header_value,  -- after `header `
  copy.path AS chain,
  concat(part_source.file, ':', CAST(part_source.first_line + cause.line - 1 AS VARCHAR)) AS evidence,
  copy.recipient AS mailbox,
  late.accepted,
  substring(copy.subject, 8) AS subject
FROM late
JOIN copy ON copy.chain = late.chain
JOIN copy AS cause ON cause.chain = late.cause_chain
LEFT JOIN part_source ON part_source.part = cause.part
WHERE ((late.failed = 1 OR late.late = 1) AND copy.resent = 0 AND copy.null_sender = 0) OR (SELECT all_mail FROM params) = 1
ORDER BY outcome_id
