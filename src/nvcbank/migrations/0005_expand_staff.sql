-- Staff, what they may do to customers' accounts, and the trail of what they did. Each act and its line in the trail
-- are one transaction.

CREATE TYPE staff_role AS ENUM ('officer', 'supervisor');

CREATE TABLE staff (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    login text NOT NULL UNIQUE CHECK (login = lower(login) AND length(login) BETWEEN 3 AND 254),
    name text NOT NULL CHECK (length(name) BETWEEN 1 AND 200),
    role staff_role NOT NULL,
    password_hash text NOT NULL CHECK (password_hash LIKE '$argon2id$%'),
    active boolean NOT NULL DEFAULT true,
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE staff_action (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    staff_id bigint NOT NULL REFERENCES staff,
    action text NOT NULL,
    subject_kind text NOT NULL CHECK (subject_kind IN ('customer', 'account', 'hold', 'transfer', 'case')),
    subject_id bigint NOT NULL,
    reason text NOT NULL CHECK (length(reason) BETWEEN 1 AND 500),
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX staff_action_subject ON staff_action (subject_kind, subject_id);
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON staff_action
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

ALTER TABLE kyc_event ADD FOREIGN KEY (staff_id) REFERENCES staff;
ALTER TABLE hold ADD FOREIGN KEY (placed_by) REFERENCES staff;
ALTER TABLE hold_end ADD FOREIGN KEY (ended_by) REFERENCES staff;

-- Notes the act in the trail, or refuses: the person must be active and have one of these roles.
CREATE FUNCTION staff_acts(
    by_staff bigint, roles staff_role[], of_action text, on_kind text, on_id bigint, because text
) RETURNS void LANGUAGE plpgsql SET search_path = bank, pg_temp AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM staff WHERE id = by_staff AND active AND role = ANY (roles)) THEN
        RAISE EXCEPTION 'this person may not do that' USING ERRCODE = 'BK403';
    END IF;
    INSERT INTO staff_action (staff_id, action, subject_kind, subject_id, reason)
    VALUES (by_staff, of_action, on_kind, on_id, because);
END $$;

CREATE FUNCTION move_kyc(by_staff bigint, of_customer bigint, into_state kyc_state, because text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = bank, pg_temp AS $$
DECLARE
    old_state kyc_state;
BEGIN
    SELECT kyc_state INTO old_state FROM customer WHERE id = of_customer FOR UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'there is no such customer' USING ERRCODE = 'BK404';
    END IF;
    PERFORM staff_acts(by_staff, '{officer,supervisor}', 'kyc.' || into_state, 'customer', of_customer, because);
    UPDATE customer SET kyc_state = into_state WHERE id = of_customer;
    INSERT INTO kyc_event (customer_id, from_state, to_state, staff_id, reason)
    VALUES (of_customer, old_state, into_state, by_staff, because);
END $$;

CREATE FUNCTION block_account(by_staff bigint, of_account bigint, set_blocked boolean, because text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = bank, pg_temp AS $$
BEGIN
    UPDATE account SET blocked = set_blocked WHERE id = of_account AND kind <> 'house';
    IF NOT FOUND THEN
        RAISE EXCEPTION 'there is no such account' USING ERRCODE = 'BK404';
    END IF;
    PERFORM staff_acts(by_staff, '{officer,supervisor}',
        CASE WHEN set_blocked THEN 'account.block' ELSE 'account.unblock' END, 'account', of_account, because);
END $$;

CREATE FUNCTION place_hold(by_staff bigint, of_account bigint, of_amount bigint, until timestamptz, because text)
RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER SET search_path = bank, pg_temp AS $$
DECLARE
    new_id bigint;
BEGIN
    PERFORM FROM account WHERE id = of_account AND kind <> 'house' FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'there is no such account' USING ERRCODE = 'BK404';
    END IF;
    IF until <= now() THEN
        RAISE EXCEPTION 'a hold must end in the future' USING ERRCODE = 'BK422';
    END IF;
    PERFORM expire_holds_of(ARRAY[of_account]);
    INSERT INTO hold (account_id, amount, expires_at, placed_by, reason)
    VALUES (of_account, of_amount, until, by_staff, because) RETURNING id INTO new_id;
    PERFORM staff_acts(by_staff, '{officer,supervisor}', 'hold.place', 'hold', new_id, because);
    RETURN new_id;
EXCEPTION WHEN check_violation THEN
    RAISE EXCEPTION 'the hold is more than what is available' USING ERRCODE = 'BK409';
END $$;

-- Says how the hold ended: released now, or as it had ended before.
CREATE FUNCTION release_hold(by_staff bigint, of_hold bigint, because text) RETURNS hold_ending
LANGUAGE plpgsql SECURITY DEFINER SET search_path = bank, pg_temp AS $$
DECLARE
    known hold_ending;
BEGIN
    PERFORM FROM account WHERE id = (SELECT account_id FROM hold WHERE id = of_hold) FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'there is no such hold' USING ERRCODE = 'BK404';
    END IF;
    PERFORM staff_acts(by_staff, '{officer,supervisor}', 'hold.release', 'hold', of_hold, because);
    SELECT ending INTO known FROM hold_end WHERE hold_id = of_hold;
    IF FOUND THEN
        RETURN known;
    END IF;
    INSERT INTO hold_end (hold_id, ending, ended_by) VALUES (of_hold, 'released', by_staff);
    RETURN 'released';
END $$;

-- Moves the money of a settled transfer back, once. A reversal that the payee cannot cover is declined and kept.
CREATE FUNCTION reverse_transfer(by_staff bigint, of_transfer bigint, because text)
RETURNS TABLE (transfer_id bigint, verdict text, posted_at timestamptz)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = bank, pg_temp AS $$
DECLARE
    t transfer;
BEGIN
    SELECT * INTO t FROM transfer WHERE id = of_transfer AND outcome = 'settled' AND kind <> 'reversal';
    IF NOT FOUND THEN
        RAISE EXCEPTION 'there is no such settled transfer' USING ERRCODE = 'BK404';
    END IF;
    PERFORM staff_acts(by_staff, '{supervisor}', 'transfer.reverse', 'transfer', of_transfer, because);
    RETURN QUERY SELECT r.transfer_id, r.verdict::text, r.posted_at FROM post_transfers(
        'reversal', ARRAY[NULL::bigint], ARRAY[uuid_send(gen_random_uuid())], ARRAY[uuid_send(gen_random_uuid())],
        ARRAY[t.credit_account], ARRAY[t.debit_account], ARRAY[t.amount], ARRAY[t.currency], ARRAY[''], of_transfer) r;
EXCEPTION WHEN unique_violation THEN
    RAISE EXCEPTION 'this transfer was reversed before' USING ERRCODE = 'BK409';
END $$;
