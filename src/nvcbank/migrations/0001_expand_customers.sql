-- Currencies, customers and their KYC state machine, credentials, and the guard that counts wrong passwords.

CREATE TABLE currency (
    code text PRIMARY KEY CHECK (code ~ '^[A-Z]{3}$'),
    exponent smallint NOT NULL CHECK (exponent BETWEEN 0 AND 4),
    -- The amount from which a single payment must be reported: structuring stays just below it.
    reporting_threshold bigint NOT NULL CHECK (reporting_threshold > 0)
);
INSERT INTO currency (code, exponent, reporting_threshold) VALUES
    ('EUR', 2, 1000000), ('USD', 2, 1000000), ('GBP', 2, 1000000), ('CHF', 2, 1500000), ('JPY', 0, 2000000);

CREATE TYPE kyc_state AS ENUM ('registered', 'in_review', 'verified', 'rejected', 'suspended', 'closed');

CREATE TABLE kyc_transition (
    from_state kyc_state NOT NULL,
    to_state kyc_state NOT NULL,
    PRIMARY KEY (from_state, to_state)
);
INSERT INTO kyc_transition (from_state, to_state) VALUES
    ('registered', 'in_review'), ('registered', 'closed'),
    ('in_review', 'verified'), ('in_review', 'rejected'),
    ('rejected', 'in_review'), ('rejected', 'closed'),
    ('verified', 'suspended'), ('verified', 'closed'),
    ('suspended', 'verified'), ('suspended', 'closed');

CREATE TABLE customer (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    login text NOT NULL UNIQUE CHECK (login = lower(login) AND length(login) BETWEEN 3 AND 254),
    name text NOT NULL CHECK (length(name) BETWEEN 1 AND 200),
    kyc_state kyc_state NOT NULL DEFAULT 'registered',
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE credential (
    customer_id bigint PRIMARY KEY REFERENCES customer,
    password_hash text NOT NULL CHECK (password_hash LIKE '$argon2id$%')
);

CREATE TABLE kyc_event (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    customer_id bigint NOT NULL REFERENCES customer,
    from_state kyc_state NOT NULL,
    to_state kyc_state NOT NULL,
    staff_id bigint,
    reason text NOT NULL CHECK (length(reason) BETWEEN 1 AND 500),
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX kyc_event_customer ON kyc_event (customer_id, id);

-- Wrong passwords are counted by a keyed hash of the login, so that names nobody has are counted like any other:
-- an attacker cannot tell them apart, and the table holds no name.
CREATE TABLE sign_in_guard (
    login_ref bytea PRIMARY KEY,
    failed integer NOT NULL CHECK (failed >= 0),
    locked_until timestamptz NOT NULL DEFAULT '-infinity',
    last_failed_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX sign_in_guard_age ON sign_in_guard (last_failed_at);

-- Made once, shared by every instance: the key of the pseudonyms that stand in log lines.
CREATE TABLE instance_secret (
    name text PRIMARY KEY,
    value bytea NOT NULL CHECK (length(value) >= 32)
);
INSERT INTO instance_secret (name, value)
SELECT 'pseudonym', uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid());

-- What is written once stays as it was written: attached to every append-only table.
CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'rows of % are never changed or removed', TG_TABLE_NAME
        USING ERRCODE = 'BK405', HINT = 'post a reversal or append a new row';
END $$;

CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON kyc_event
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

CREATE FUNCTION guard_kyc_state() RETURNS trigger LANGUAGE plpgsql SET search_path = bank, pg_temp AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        IF NEW.kyc_state <> 'registered' THEN
            RAISE EXCEPTION 'a new customer is registered, not %', NEW.kyc_state USING ERRCODE = 'BK409';
        END IF;
    ELSIF NOT EXISTS (
        SELECT FROM kyc_transition t WHERE t.from_state = OLD.kyc_state AND t.to_state = NEW.kyc_state
    ) THEN
        RAISE EXCEPTION 'a customer cannot go from % to %', OLD.kyc_state, NEW.kyc_state USING ERRCODE = 'BK409';
    END IF;
    RETURN NEW;
END $$;

CREATE TRIGGER kyc_state_machine BEFORE INSERT OR UPDATE OF kyc_state ON customer
    FOR EACH ROW EXECUTE FUNCTION guard_kyc_state();

CREATE FUNCTION register_customer(new_login text, new_name text, new_password_hash text) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = bank, pg_temp AS $$
DECLARE
    new_id bigint;
BEGIN
    INSERT INTO customer (login, name) VALUES (new_login, new_name) ON CONFLICT (login) DO NOTHING
        RETURNING id INTO new_id;
    IF new_id IS NULL THEN
        RAISE EXCEPTION 'this login is taken' USING ERRCODE = 'BK409';
    END IF;
    INSERT INTO credential (customer_id, password_hash) VALUES (new_id, new_password_hash);
    RETURN new_id;
END $$;

-- One more wrong password. The tenth in a row locks the login for 15 minutes; says whether it is locked now.
CREATE FUNCTION sign_in_failed(ref bytea) RETURNS boolean
LANGUAGE sql SECURITY DEFINER SET search_path = bank, pg_temp AS $$
    INSERT INTO sign_in_guard AS g (login_ref, failed) VALUES (ref, 1)
    ON CONFLICT (login_ref) DO UPDATE SET
        failed = CASE WHEN g.failed >= 10 THEN 1 ELSE g.failed + 1 END,
        locked_until = CASE WHEN g.failed = 9 THEN now() + interval '15 minutes' ELSE g.locked_until END,
        last_failed_at = now()
    WHERE g.locked_until <= now()
    RETURNING locked_until > now();
$$;

-- The right password: the count starts again. False when the login was locked while the password was being checked.
CREATE FUNCTION sign_in_succeeded(ref bytea) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = bank, pg_temp AS $$
BEGIN
    DELETE FROM sign_in_guard WHERE login_ref = ref AND locked_until <= now();
    RETURN NOT EXISTS (SELECT FROM sign_in_guard WHERE login_ref = ref);
END $$;

-- Counters nobody added to for a day, at most `most` of them.
CREATE FUNCTION forget_old_failures(most integer) RETURNS bigint
LANGUAGE sql SECURITY DEFINER SET search_path = bank, pg_temp AS $$
    WITH old AS (
        SELECT login_ref FROM sign_in_guard
        WHERE last_failed_at < now() - interval '1 day' AND locked_until <= now()
        ORDER BY last_failed_at LIMIT most FOR UPDATE SKIP LOCKED
    ), gone AS (
        DELETE FROM sign_in_guard g USING old WHERE g.login_ref = old.login_ref RETURNING 1
    )
    SELECT count(*) FROM gone;
$$;
