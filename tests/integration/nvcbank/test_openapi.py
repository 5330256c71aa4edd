"""The served description is true: generated requests never meet a 500, and what is answered is what is described."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest
import schemathesis
from bank_world import Bank, World
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from nvcbank.api.openapi import OPERATIONS, document

EXAMPLES = 12


def test_every_route_is_described_and_every_description_has_a_route(bank: Bank) -> None:
    served = bank.client.get("/openapi.json").json()
    assert served["openapi"].startswith("3.1")
    for operation in OPERATIONS:
        path = operation.path.replace("{id}", "1")
        answer = bank.client.request(operation.method, path)
        assert answer.status_code not in {404, 405} or "{id}" in operation.path, operation.path
    assert sum(len(methods) for methods in served["paths"].values()) == len(OPERATIONS)


def _operations() -> list[str]:
    return [f"{operation.method} {operation.path}" for operation in OPERATIONS if operation.path != "/metrics"]


@pytest.fixture(scope="module")
def shared(world: World) -> Iterator[Bank]:
    with world.bank(world.database()) as running:
        yield running


@pytest.fixture(scope="module")
def signed_in(shared: Bank) -> dict[str, dict[str, str]]:
    """Taken before anything is generated: a generated request may close any customer."""
    return {"customer": shared.sign_in(1), "staff": shared.sign_in(staff="supervisor")}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", _operations())
def test_generated_requests_never_meet_a_500(shared: Bank, signed_in: dict[str, dict[str, str]], name: str) -> None:
    method, path = name.split(" ")
    api = schemathesis.openapi.from_dict(document())
    api.config.update(base_url=str(shared.client.base_url))
    headers = signed_in["staff" if "/staff/" in path else "customer"]
    checks = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]

    @given(
        case=st.one_of(
            api[path][method].as_strategy(),
            api[path][method].as_strategy(generation_mode=schemathesis.GenerationMode.NEGATIVE),
        )
    )
    @settings(
        max_examples=EXAMPLES, deadline=None, database=None, derandomize=True, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    def try_it(case: schemathesis.Case) -> None:
        if path == "/v1/sessions/current":
            case.call_and_validate(headers={"Authorization": "Bearer " + "x" * 43}, checks=checks)
        else:
            case.call_and_validate(headers=headers, checks=checks)

    try_it()


def test_random_bytes_as_a_body_never_meet_a_500(shared: Bank, signed_in: dict[str, dict[str, str]]) -> None:
    @given(body=st.binary(max_size=300), path=st.sampled_from([o.path for o in OPERATIONS if o.body is not None]))
    @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
    def try_it(body: bytes, path: str) -> None:
        headers = {**signed_in["staff"], "Idempotency-Key": "k", "Content-Type": "application/json"}
        answer = httpx.post(
            f"{shared.client.base_url}{path.replace('{id}', '1')}", content=body, headers=headers, trust_env=False
        )
        assert 400 <= answer.status_code < 500

    try_it()
