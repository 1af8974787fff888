-- Purpose: by which rule the mails were linked, and how surely.
-- Parameters: none. Reads affected.
-- Columns: rule ('' none), confidence, mails.
SELECT link_rule AS rule, confidence, count(*) AS mails
FROM affected
GROUP BY link_rule, confidence
ORDER BY mails DESC, rule, confidence
