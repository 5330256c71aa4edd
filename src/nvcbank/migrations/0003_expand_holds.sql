-- Holds: money set aside on an account until it is released or the hold expires. Placing and ending are both appended.

CREATE TYPE hold_ending AS ENUM ('released', 'expired');

CREATE TABLE hold (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    account_id bigint NOT NULL REFERENCES account,
    amount bigint NOT NULL CHECK (amount > 0),
    expires_at timestamptz NOT NULL,
    placed_by bigint,
    reason text NOT NULL CHECK (length(reason) BETWEEN 1 AND 500),
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX hold_account ON hold (account_id, expires_at);

CREATE TABLE hold_end (
    hold_id bigint PRIMARY KEY REFERENCES hold,
    ending hold_ending NOT NULL,
    ended_by bigint,
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON hold
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON hold_end
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- The sum held is what the holds say; the account's own constraint refuses more than is available.
CREATE FUNCTION apply_holds() RETURNS trigger LANGUAGE plpgsql SET search_path = bank, pg_temp AS $$
BEGIN
    UPDATE account a SET held = a.held + p.amount, holds_expire_at = least(a.holds_expire_at, p.expires_at)
    FROM (SELECT account_id, sum(amount)::bigint AS amount, min(expires_at) AS expires_at
          FROM placed GROUP BY account_id) p
    WHERE a.id = p.account_id;
    RETURN NULL;
END $$;
CREATE TRIGGER apply AFTER INSERT ON hold REFERENCING NEW TABLE AS placed
    FOR EACH STATEMENT EXECUTE FUNCTION apply_holds();

CREATE FUNCTION apply_hold_ends() RETURNS trigger LANGUAGE plpgsql SET search_path = bank, pg_temp AS $$
BEGIN
    UPDATE account a SET
        held = a.held - e.amount,
        holds_expire_at = coalesce((
            SELECT min(h.expires_at) FROM hold h
            WHERE h.account_id = a.id AND NOT EXISTS (SELECT FROM hold_end x WHERE x.hold_id = h.id)
        ), 'infinity')
    FROM (SELECT h.account_id, sum(h.amount)::bigint AS amount
          FROM ended JOIN hold h ON h.id = ended.hold_id GROUP BY h.account_id) e
    WHERE a.id = e.account_id;
    RETURN NULL;
END $$;
CREATE TRIGGER apply AFTER INSERT ON hold_end REFERENCING NEW TABLE AS ended
    FOR EACH STATEMENT EXECUTE FUNCTION apply_hold_ends();

-- Ends the holds of these accounts that are over. The caller has locked the accounts.
CREATE FUNCTION expire_holds_of(accounts bigint[]) RETURNS bigint
LANGUAGE sql SET search_path = bank, pg_temp AS $$
    WITH over AS (
        INSERT INTO hold_end (hold_id, ending)
        SELECT h.id, 'expired' FROM hold h
        WHERE h.account_id = ANY (accounts) AND h.expires_at <= now()
          AND NOT EXISTS (SELECT FROM hold_end x WHERE x.hold_id = h.id)
        RETURNING 1
    )
    SELECT count(*) FROM over;
$$;

-- Housekeeping: ends what is over on at most `most` accounts, in the same lock order as posting.
CREATE FUNCTION expire_due_holds(most integer) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = bank, pg_temp AS $$
DECLARE
    due bigint[];
BEGIN
    SELECT array_agg(id) INTO due FROM (
        SELECT id FROM account
        WHERE id IN (SELECT id FROM account WHERE holds_expire_at <= now() ORDER BY holds_expire_at LIMIT most)
        ORDER BY id FOR NO KEY UPDATE
    ) locked;
    RETURN CASE WHEN due IS NULL THEN 0 ELSE expire_holds_of(due) END;
END $$;
