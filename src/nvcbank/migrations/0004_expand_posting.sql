-- Posting: one call for a group of transfers, each with its own verdict.

-- All arrays have one element per transfer, in the order in which verdicts are given. Keys must differ within the group.
-- answer is new, replay (same key, same request: the outcome of then) or conflict (same key, another request).
-- The settings pin the plan to index look-ups: a group is small and the tables are large.
CREATE FUNCTION post_transfers(
    of_kind transfer_kind, customers bigint[], keys bytea[], hashes bytea[], debits bigint[], credits bigint[],
    amounts bigint[], currencies text[], notes text[], reverse_of bigint DEFAULT NULL
) RETURNS TABLE (transfer_id bigint, verdict outcome, posted_at timestamptz, answer text)
LANGUAGE plpgsql SET search_path = bank, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_hashjoin = off SET enable_mergejoin = off SET enable_seqscan = off
AS $$
DECLARE
    size constant integer := cardinality(keys);
    locked bigint[];   -- ids of the accounts of this group, ascending
    some_hold_is_over boolean;
    net bigint[];      -- what this group has moved so far, per locked account
    spending bigint[];
    ids bigint[] := array_fill(NULL::bigint, ARRAY[size]);
    verdicts outcome[] := array_fill(NULL::outcome, ARRAY[size]);
    p record;
BEGIN
    -- 1. Lock, in sorted order: two groups never wait for each other in a circle.
    SELECT array_agg(a.id), bool_or(a.holds_expire_at <= now()) INTO locked, some_hold_is_over FROM (
        SELECT id, holds_expire_at FROM account WHERE id = ANY (debits || credits) ORDER BY id FOR NO KEY UPDATE
    ) a;
    IF some_hold_is_over THEN
        PERFORM expire_holds_of(locked);
    END IF;
    net := array_fill(0::bigint, ARRAY[coalesce(cardinality(locked), 0)]);
    spending := net;

    -- 2. Look, with a snapshot taken after the locks; 3. decide, one after the other.
    FOR p IN
        SELECT i.n::integer AS n, i.amount,
               width_bucket(i.debit_id, l.ids) AS debit, width_bucket(i.credit_id, l.ids) AS credit,
               t.id AS known_id, t.outcome AS known_outcome, t.created_at AS known_at, t.request_hash = i.hash AS same,
               CASE
                   WHEN d.id IS NULL OR c.id IS NULL OR (of_kind = 'payment' AND d.customer_id IS DISTINCT FROM i.customer)
                       THEN 'declined_unknown_account'
                   WHEN of_kind <> 'reversal' AND (d.blocked OR c.blocked
                       OR NOT (d.customer_verified OR d.kind = 'house') OR NOT (c.customer_verified OR c.kind = 'house'))
                       THEN 'declined_blocked'
                   WHEN d.currency <> i.currency OR c.currency <> i.currency THEN 'declined_currency'
                   WHEN of_kind = 'payment' AND i.amount > d.payment_limit THEN 'declined_limit'
                   ELSE 'settled'
               END::outcome AS verdict,
               CASE WHEN d.kind = 'house' THEN NULL ELSE d.balance - d.held + d.overdraft_limit END AS available,
               CASE WHEN of_kind <> 'payment' THEN NULL
                    ELSE d.daily_limit - CASE WHEN d.spent_on = current_date THEN d.spent ELSE 0 END END AS left_today
        FROM unnest(customers, keys, hashes, debits, credits, amounts, currencies) WITH ORDINALITY
            AS i (customer, key, hash, debit_id, credit_id, amount, currency, n)
        -- A variable's array would be unpacked again for every look-up; a column's is searched where it lies.
        CROSS JOIN (SELECT array_agg(id ORDER BY id) AS ids FROM unnest(locked) AS u (id)) l
        LEFT JOIN account d ON d.id = i.debit_id
        LEFT JOIN account c ON c.id = i.credit_id
        LEFT JOIN transfer t ON t.idempotency_key = i.key
        ORDER BY i.n
    LOOP
        IF p.known_id IS NOT NULL THEN
            transfer_id := p.known_id; verdict := p.known_outcome; posted_at := p.known_at;
            answer := CASE WHEN p.same THEN 'replay' ELSE 'conflict' END;
            RETURN NEXT;
            CONTINUE;
        END IF;
        verdict := p.verdict;
        IF verdict = 'settled' THEN
            IF p.amount > p.left_today - spending[p.debit] THEN
                verdict := 'declined_limit';
            ELSIF p.amount > p.available + net[p.debit] THEN
                verdict := 'declined_insufficient_funds';
            ELSE
                net[p.debit] := net[p.debit] - p.amount;
                net[p.credit] := net[p.credit] + p.amount;
                spending[p.debit] := spending[p.debit] + p.amount;
            END IF;
        END IF;
        ids[p.n] := nextval('transfer_id_seq');
        verdicts[p.n] := verdict;
        transfer_id := ids[p.n]; posted_at := now(); answer := 'new';
        RETURN NEXT;
    END LOOP;

    -- 4. Write: the triggers make the entries and move the balances.
    INSERT INTO transfer (id, debit_account, credit_account, amount, customer_id, reverses, idempotency_key, request_hash,
                          kind, outcome, currency, reference)
    SELECT i.id, i.debit_id, i.credit_id, i.amount, i.customer, reverse_of, i.key, i.hash, of_kind, i.outcome, i.currency,
           i.note
    FROM unnest(ids, debits, credits, amounts, customers, keys, hashes, verdicts, currencies, notes)
        AS i (id, debit_id, credit_id, amount, customer, key, hash, outcome, currency, note)
    WHERE i.id IS NOT NULL;
END $$;

-- What the service may call: payments of customers from their own accounts.
CREATE FUNCTION post_payments(
    customers bigint[], keys bytea[], hashes bytea[], debits bigint[], credits bigint[], amounts bigint[],
    currencies text[], notes text[]
) RETURNS TABLE (transfer_id bigint, verdict text, posted_at timestamptz, answer text)
LANGUAGE sql SECURITY DEFINER SET search_path = bank, pg_temp AS $$
    SELECT transfer_id, verdict::text, posted_at, answer
    FROM post_transfers('payment', customers, keys, hashes, debits, credits, amounts, currencies, notes);
$$;
