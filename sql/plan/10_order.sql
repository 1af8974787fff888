-- Purpose: put the mails of one plan into sending order and cut them into batches.
-- Per (egress, provider): first mails to a mailbox before second ones; then the most urgent; customers in turn, so that
-- none starves; then the nearest expiry, the oldest, the key. The canary comes first: one mail a domain while there are
-- new domains, up to its size.
-- Parameters: none. Reads candidate(outcome_id, egress, provider, domain, customer, rcpt_key, urgency, expires_at,
--   arrived_at, release, batch_size, canary_size), times in microseconds UTC.
-- Columns: outcome_id, egress, provider, round (0: the first mail to this mailbox), canary (0/1), batch_seq, seq.
WITH placed AS (
  SELECT
    *,
    row_number() OVER (
      PARTITION BY egress, provider, rcpt_key
      ORDER BY urgency DESC, expires_at ASC NULLS LAST, arrived_at ASC NULLS LAST, release, outcome_id
    ) - 1 AS round
  FROM candidate
),
turned AS (
  SELECT
    *,
    row_number() OVER (
      PARTITION BY egress, provider, round, urgency, customer
      ORDER BY expires_at ASC NULLS LAST, arrived_at ASC NULLS LAST, release, outcome_id
    ) AS turn
  FROM placed
),
ordered AS (
  SELECT
    *,
    row_number() OVER (
      PARTITION BY egress, provider
      ORDER BY round, urgency DESC, turn, expires_at ASC NULLS LAST, arrived_at ASC NULLS LAST, customer, release,
        outcome_id
    ) AS place
  FROM turned
),
domains AS (
  SELECT
    *,
    row_number() OVER (PARTITION BY egress, provider, domain ORDER BY place, outcome_id) AS domain_turn
  FROM ordered
),
canaries AS (
  SELECT
    *,
    CASE
      WHEN round = 0
        AND row_number() OVER (PARTITION BY egress, provider ORDER BY round, domain_turn, place, outcome_id)
          <= canary_size
      THEN 1
      ELSE 0
    END AS canary
  FROM domains
),
numbered AS (
  SELECT
    *,
    row_number() OVER (PARTITION BY egress, provider, canary, round ORDER BY place, outcome_id) - 1 AS n
  FROM canaries
),
cut AS (
  SELECT
    *,
    (n - n % batch_size) / batch_size AS slice,
    n % batch_size AS seq
  FROM numbered
)
SELECT
  outcome_id,
  egress,
  provider,
  round,
  canary,
  dense_rank() OVER (PARTITION BY egress, provider ORDER BY canary DESC, round, slice) - 1 AS batch_seq,
  seq
FROM cut
ORDER BY egress, provider, batch_seq, seq
