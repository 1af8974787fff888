-- Purpose: whose address it is: recipients of the catalog at the addresses of the outcomes.
-- Parameters: none. Reads outcome, recipient.
-- Columns: address (lower case), owners, recipient_id (the one, or the first of them).
SELECT
  a.address,
  count(*) AS owners,
  min(r.id) AS recipient_id
FROM (SELECT DISTINCT address FROM outcome) AS a
JOIN recipient AS r ON lower(r.rcpt_key) = a.address
GROUP BY a.address
