-- Purpose: send log rows of recipients that the catalog does not have.
-- Parameters: none.
-- Columns: count, example, text.
SELECT count(*), min(s.recipient), 'send log rows name a recipient that is not in the catalog'
FROM sendlog_row AS s
ANTI JOIN recipient AS r ON r.id = s.recipient
WHERE s.recipient <> ''
