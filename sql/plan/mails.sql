-- Purpose: the mails that a plan made now would hold, with what the catalog knows of their recipients.
-- Parameters: none. Reads affected (linker/buckets), recipient.
-- Columns: as below, by outcome_id; name, locale, attrs, tz '' where the catalog does not know. attrs is a JSON object.
SELECT
  a.outcome_id,
  a.release,
  a.recipient_id,
  a.rcpt_key,
  a.rcpt,
  a.provider,
  a.customer,
  a.customer_name,
  a.title,
  a.header_from AS sender,
  a.envelope_from,
  a.urgency,
  a.expires_at,
  a.arrived_at,
  a.sent_at,
  a.message_id,
  a.generation,
  coalesce(r.name, '') AS name,
  coalesce(r.locale, '') AS locale,
  coalesce(r.attrs, '') AS attrs,
  coalesce(r.tz, '') AS tz,
  a.bucket,
  a.status,
  a.confidence,
  a.cause
FROM affected AS a
LEFT JOIN recipient AS r ON r.id = a.recipient_id
WHERE a.bucket = 'resend'
ORDER BY a.outcome_id
