-- Purpose: mails of an incident to one receiving system by the hour of their arrival.
-- Parameters: provider VARCHAR. Reads affected.
-- Columns: hour (microseconds UTC), mails.
SELECT a.arrived_at - a.arrived_at % 3600000000 AS hour, count(*) AS mails
FROM affected AS a
CROSS JOIN params
WHERE a.provider = params.provider AND a.arrived_at IS NOT NULL
GROUP BY a.arrived_at - a.arrived_at % 3600000000
ORDER BY hour
