-- The book-keeping rules. Each query answers with what breaks its rule, as id and found: no rows is what we want to see.
-- They only read, and may be run one by one, by any role that may read the ledger, on a standby or a restored copy too.

-- name: the entries of every transfer sum to zero in one currency
SELECT transfer_id AS id, sum(amount)::bigint AS found
FROM bank.entry
GROUP BY transfer_id
HAVING sum(amount) <> 0 OR count(*) <> 2 OR min(currency) <> max(currency);

-- name: every settled transfer has its two entries and no declined one has any
SELECT t.id, count(e.*) AS found
FROM bank.transfer t
LEFT JOIN bank.entry e ON e.transfer_id = t.id
    AND (e.account_id, e.amount) IN ((t.debit_account, -t.amount), (t.credit_account, t.amount))
    AND e.currency = t.currency
GROUP BY t.id, t.outcome
HAVING count(e.*) <> CASE WHEN t.outcome = 'settled' THEN 2 ELSE 0 END;

-- name: every entry belongs to a transfer
SELECT e.transfer_id AS id, e.amount AS found
FROM bank.entry e
LEFT JOIN bank.transfer t ON t.id = e.transfer_id
WHERE t.id IS NULL;

-- name: every balance is the sum of its entries
SELECT a.id, a.balance - coalesce(e.total, 0) AS found
FROM bank.account a
LEFT JOIN (SELECT account_id, sum(amount)::bigint AS total FROM bank.entry GROUP BY account_id) e ON e.account_id = a.id
WHERE a.balance <> coalesce(e.total, 0);

-- name: every entry's running balance follows from the one before
SELECT transfer_id AS id, balance_after AS found
FROM (
    SELECT transfer_id, balance_after, sum(amount) OVER (PARTITION BY account_id ORDER BY transfer_id) AS running
    FROM bank.entry
) e
WHERE balance_after <> running;

-- name: all balances of a currency sum to zero
SELECT 0 AS id, sum(balance)::bigint AS found
FROM bank.account
GROUP BY currency
HAVING sum(balance) <> 0;

-- name: what is held is the sum of the active holds
SELECT a.id, a.held - coalesce(h.total, 0) AS found
FROM bank.account a
LEFT JOIN (
    SELECT h.account_id, sum(h.amount)::bigint AS total
    FROM bank.hold h
    WHERE NOT EXISTS (SELECT FROM bank.hold_end x WHERE x.hold_id = h.id)
    GROUP BY h.account_id
) h ON h.account_id = a.id
WHERE a.held <> coalesce(h.total, 0);

-- name: no account is below its overdraft limit or holds more than is available
SELECT id, balance - held + overdraft_limit AS found
FROM bank.account
WHERE kind <> 'house' AND balance - held < -overdraft_limit;

-- name: no transfer is reversed twice
SELECT reverses AS id, count(*) AS found
FROM bank.transfer
WHERE reverses IS NOT NULL AND outcome = 'settled'
GROUP BY reverses
HAVING count(*) > 1;
