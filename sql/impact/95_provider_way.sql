-- Purpose: how the receiving system of the mails was found: by the relay in the log, by MX, or by the domain only.
-- Parameters: none. Reads affected.
-- Columns: way, mails.
SELECT provider_way AS way, count(*) AS mails
FROM affected
GROUP BY provider_way
ORDER BY mails DESC, way
