-- What a time cost, as the ledger has it. Each query answers with one number, of the moments from %(start)s to %(end)s.

-- name: payments settled
SELECT count(*) FROM bank.transfer
WHERE kind = 'payment' AND outcome = 'settled' AND created_at >= %(start)s::timestamptz AND created_at < %(end)s::timestamptz;

-- name: payments declined
SELECT count(*) FROM bank.transfer
WHERE kind = 'payment' AND outcome <> 'settled' AND created_at >= %(start)s::timestamptz AND created_at < %(end)s::timestamptz;

-- name: customers who paid in the hour before and could not while it lasted
SELECT count(DISTINCT before.customer_id) FROM bank.transfer before
WHERE before.kind = 'payment' AND before.outcome = 'settled'
    AND before.created_at >= %(start)s::timestamptz - interval '1 hour' AND before.created_at < %(start)s::timestamptz
    AND NOT EXISTS (
        SELECT FROM bank.transfer later
        WHERE later.customer_id = before.customer_id AND later.kind = 'payment' AND later.outcome = 'settled'
            AND later.created_at >= %(start)s::timestamptz AND later.created_at < %(end)s::timestamptz
    );
