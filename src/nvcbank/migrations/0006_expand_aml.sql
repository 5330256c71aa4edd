-- AML: rules look at what was paid and raise cases for people. They never stop a payment.

CREATE TYPE aml_rule AS ENUM ('velocity', 'structuring');

CREATE TABLE aml_case (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    rule aml_rule NOT NULL,
    account_id bigint NOT NULL REFERENCES account,
    raised_on date NOT NULL DEFAULT current_date,
    payments integer NOT NULL,
    total bigint NOT NULL,
    newest_transfer bigint NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    -- At most one case per rule, account and day: looking twice raises nothing twice.
    UNIQUE (account_id, rule, raised_on)
);
CREATE TABLE aml_decision (
    case_id bigint PRIMARY KEY REFERENCES aml_case,
    staff_id bigint NOT NULL REFERENCES staff,
    decision text NOT NULL CHECK (decision IN ('reported', 'dismissed')),
    reason text NOT NULL CHECK (length(reason) BETWEEN 1 AND 500),
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON aml_case
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON aml_decision
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- What the rules compare with. One row; changed by a migration, with a reason in its commit.
CREATE TABLE aml_limit (
    singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    velocity_payments integer NOT NULL DEFAULT 30,
    velocity_window interval NOT NULL DEFAULT '10 minutes',
    structuring_payments integer NOT NULL DEFAULT 3,
    structuring_window interval NOT NULL DEFAULT '24 hours',
    -- A payment is "just below" from this share of the reporting threshold.
    structuring_share numeric NOT NULL DEFAULT 0.8
);
INSERT INTO aml_limit DEFAULT VALUES;

-- How far the rules have looked. All transfers up to `done` were judged. Those up to `candidate` were visible when
-- `horizon` was the next transaction: once every transaction before it has ended, no smaller id can still appear.
CREATE TABLE aml_position (
    singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    done bigint NOT NULL DEFAULT 0,
    candidate bigint NOT NULL DEFAULT 0,
    horizon xid8 NOT NULL DEFAULT '0'
);
INSERT INTO aml_position DEFAULT VALUES;

-- The accounts that paid in (after, upto], judged by both rules over windows that end now. An account that already has
-- a case of the rule today is left alone: people look at it.
CREATE FUNCTION aml_judge(after bigint, upto bigint) RETURNS bigint
LANGUAGE sql SET search_path = bank, pg_temp SET enable_hashjoin = off SET enable_mergejoin = off AS $$
    WITH paid AS (
        SELECT t.debit_account AS account_id, max(t.id) AS newest,
               bool_or(t.amount < c.reporting_threshold AND t.amount >= c.reporting_threshold * l.structuring_share) AS near
        FROM transfer t JOIN currency c ON c.code = t.currency CROSS JOIN aml_limit l
        WHERE t.id > after AND t.id <= upto AND t.kind = 'payment' AND t.outcome = 'settled'
        GROUP BY t.debit_account
    ), quick AS MATERIALIZED (  -- before anything is counted: most busy accounts have their case already
        SELECT p.account_id, p.newest FROM paid p WHERE NOT EXISTS (
            SELECT FROM aml_case k
            WHERE k.account_id = p.account_id AND k.rule = 'velocity' AND k.raised_on = current_date)
    ), careful AS MATERIALIZED (
        SELECT p.account_id, p.newest FROM paid p WHERE p.near AND NOT EXISTS (
            SELECT FROM aml_case k
            WHERE k.account_id = p.account_id AND k.rule = 'structuring' AND k.raised_on = current_date)
    ), judged AS (
        -- Velocity: the debit that makes it so many is younger than the window. One look-up decides; counting is for hits.
        SELECT 'velocity'::aml_rule AS rule, p.account_id, p.newest, w.payments, w.total
        FROM quick p CROSS JOIN aml_limit l CROSS JOIN LATERAL (
            SELECT e.transfer_id FROM entry e WHERE e.account_id = p.account_id AND e.amount < 0
            ORDER BY e.transfer_id DESC OFFSET l.velocity_payments - 1 LIMIT 1
        ) oldest JOIN transfer t ON t.id = oldest.transfer_id CROSS JOIN LATERAL (
            SELECT count(*) AS payments, sum(-e.amount) AS total FROM entry e
            WHERE e.account_id = p.account_id AND e.amount < 0 AND e.transfer_id >= oldest.transfer_id
        ) w
        WHERE t.created_at > now() - l.velocity_window
        UNION ALL
        -- Structuring: several payments just below the reporting threshold.
        SELECT 'structuring', p.account_id, p.newest, w.payments, w.total
        FROM careful p CROSS JOIN aml_limit l CROSS JOIN LATERAL (
            SELECT count(*) AS payments, coalesce(sum(recent.amount), 0) AS total FROM (
                SELECT t.amount, t.currency, t.created_at FROM entry e JOIN transfer t ON t.id = e.transfer_id
                WHERE e.account_id = p.account_id AND e.amount < 0 AND t.kind = 'payment'
                ORDER BY e.transfer_id DESC LIMIT 1000
            ) recent JOIN currency c ON c.code = recent.currency
            WHERE recent.created_at > now() - l.structuring_window AND recent.amount < c.reporting_threshold
              AND recent.amount >= c.reporting_threshold * l.structuring_share
        ) w
        WHERE w.payments >= l.structuring_payments
    ), raised AS (
        INSERT INTO aml_case (rule, account_id, payments, total, newest_transfer)
        SELECT rule, account_id, payments, total, newest FROM judged
        ON CONFLICT (account_id, rule, raised_on) DO NOTHING RETURNING 1
    )
    SELECT count(*) FROM raised;
$$;

-- One look, by at most one instance at a time. Returns the cases raised, or null when another instance is looking.
-- At least once: a look that fails is repeated from the same place, and cases are unique.
CREATE FUNCTION aml_look(most bigint) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = bank, pg_temp AS $$
DECLARE
    p aml_position;
    raised bigint := 0;
    upto bigint;
BEGIN
    SELECT * INTO p FROM aml_position FOR UPDATE SKIP LOCKED;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    IF p.candidate > p.done AND pg_snapshot_xmin(pg_current_snapshot()) >= p.horizon THEN
        upto := least(p.candidate, p.done + most);
        raised := aml_judge(p.done, upto);
        p.done := upto;
    END IF;
    IF p.candidate = p.done THEN
        -- In this order: the horizon must be at least as late as the snapshot that saw the candidate.
        SELECT coalesce(max(id), 0) INTO p.candidate FROM transfer;
        p.horizon := pg_snapshot_xmax(pg_current_snapshot());
    END IF;
    UPDATE aml_position SET done = p.done, candidate = greatest(p.candidate, p.done), horizon = p.horizon
    WHERE (done, candidate, horizon) IS DISTINCT FROM (p.done, greatest(p.candidate, p.done), p.horizon);
    RETURN raised;
END $$;

CREATE FUNCTION decide_case(by_staff bigint, of_case bigint, of_decision text, because text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = bank, pg_temp AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM aml_case WHERE id = of_case) THEN
        RAISE EXCEPTION 'there is no such case' USING ERRCODE = 'BK404';
    END IF;
    PERFORM staff_acts(by_staff, '{officer,supervisor}', 'case.' || of_decision, 'case', of_case, because);
    INSERT INTO aml_decision (case_id, staff_id, decision, reason) VALUES (of_case, by_staff, of_decision, because);
EXCEPTION WHEN unique_violation THEN
    RAISE EXCEPTION 'this case was decided before' USING ERRCODE = 'BK409';
END $$;
