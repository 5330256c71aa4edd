-- Who may do what. Functions are nobody's until granted; only the owner writes to tables.

REVOKE ALL ON ALL TABLES IN SCHEMA bank FROM PUBLIC;
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA bank FROM PUBLIC;
ALTER DEFAULT PRIVILEGES IN SCHEMA bank REVOKE ALL ON FUNCTIONS FROM PUBLIC;
ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;

GRANT USAGE ON SCHEMA bank TO nvcbank_service, nvcbank_readonly, nvcbank_auditor;

-- The service reads what it answers with and changes things through functions alone.
GRANT SELECT ON account, transfer, entry, currency, hold, hold_end, aml_case, aml_decision TO nvcbank_service;
GRANT SELECT (id, login, name, kyc_state, created_at) ON customer TO nvcbank_service;
GRANT SELECT (id, login, name, role, active, password_hash) ON staff TO nvcbank_service;
GRANT SELECT ON credential, sign_in_guard, instance_secret, applied_migration TO nvcbank_service;
GRANT EXECUTE ON FUNCTION
    register_customer(text, text, text), sign_in_failed(bytea), sign_in_succeeded(bytea), forget_old_failures(integer),
    open_account(bigint, text), expire_due_holds(integer),
    post_payments(bigint[], bytea[], bytea[], bigint[], bigint[], bigint[], text[], text[]),
    move_kyc(bigint, bigint, kyc_state, text), block_account(bigint, bigint, boolean, text),
    place_hold(bigint, bigint, bigint, timestamptz, text), release_hold(bigint, bigint, text),
    reverse_transfer(bigint, bigint, text), aml_look(bigint), decide_case(bigint, bigint, text, text)
TO nvcbank_service;

-- Read-only: figures and books for operations, without personal data and secrets.
GRANT SELECT ON account, transfer, entry, currency, hold, hold_end, kyc_transition, applied_migration, aml_position
TO nvcbank_readonly;
GRANT SELECT (id, kyc_state, created_at) ON customer TO nvcbank_readonly;
GRANT SELECT (id, role, active, created_at) ON staff TO nvcbank_readonly;

-- The auditor reads everything but secrets.
GRANT SELECT ON account, transfer, entry, currency, hold, hold_end, kyc_transition, kyc_event, customer, staff_action,
    aml_case, aml_decision, aml_limit, aml_position, applied_migration TO nvcbank_auditor;
GRANT SELECT (id, login, name, role, active, created_at) ON staff TO nvcbank_auditor;
GRANT SELECT (failed, locked_until, last_failed_at) ON sign_in_guard TO nvcbank_auditor;
