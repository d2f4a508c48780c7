"""Jobs over HTTP: handed over, worked off by real worker processes, fetched."""

import json
from decimal import Decimal

import httpx
import pytest

from tests.llm.serving import Server
from tests.server.running import Running
from tracemill.jobs import worker
from tracemill.server.admission import admission

ASKED = {
    "model": "local/extract",
    "messages": [{"role": "user", "content": "What is a log?\n\n[1] A log is a file that grows."}],
}


@pytest.fixture
def http(server: Running):
    with httpx.Client(base_url=server.url, timeout=60) as client:
        yield client


def work(server: Running) -> None:
    """Until nothing is left to do."""
    worker.run(server.gateway.settings, 1, threads=2, admission=admission, until_idle=True)


def test_requests_are_handed_over_answered_and_fetched_in_their_order(
    server: Running, http: httpx.Client, upstream: Server
) -> None:
    wrong = {**ASKED, "messages": [{"role": "user", "content": "No passages here."}]}
    body = {"requests": [ASKED, wrong, {**ASKED, "model": "gpt-5.4-mini"}], "name": "three"}
    headers = {"idempotency-key": "one", "x-tracemill-tags": "feature=night"}
    made = http.post("/v1/jobs", json=body, headers=headers)
    assert made.status_code == 202, made.text
    job_id = made.json()["id"]
    assert http.post("/v1/jobs", json=body, headers=headers).json()["id"] == job_id
    other = http.post("/v1/jobs", json={"request": ASKED}, headers=headers)
    assert (other.status_code, other.json()["error"]["param"]) == (409, "idempotency-key")
    work(server)
    job = http.get(f"/v1/jobs/{job_id}").json()
    assert (job["state"], job["counts"]["total"], job["counts"]["done"]) == ("finished", 3, 2)
    lines = http.get(f"/v1/jobs/{job_id}/result").text.splitlines()
    results = [json.loads(line) for line in lines]
    assert [result["state"] for result in results] == ["done", "failed", "done"]
    texts = [r["response"] and r["response"]["choices"][0]["message"]["content"] for r in results]
    assert "a file that grows" in texts[0]
    assert (texts[1], texts[2]) == (None, "Hello there.")
    assert results[1]["error"]["error_type"] == "no_answer"
    tags = {
        json.loads(call["metadata"])["feature"] for call in server.log.sql("FROM calls").to_dicts()
    }
    assert tags == {"night"}
    assert [each["id"] for each in http.get("/v1/jobs").json()["data"]] == [job_id]
    assert http.get("/v1/jobs?state=queued").json()["data"] == []


def test_a_job_is_of_the_key_that_made_it_and_counts_for_its_budget(
    server: Running, http: httpx.Client
) -> None:
    keys = server.gateway.keys
    key, secret = keys.create("night", models=["local/*"])
    _, other = keys.create("other")
    mine = {"authorization": f"Bearer {secret.get_secret_value()}"}
    not_mine = {"authorization": f"Bearer {other.get_secret_value()}"}
    server.gateway.budgets.add("each", scope="key", of="*", window="day", usd=Decimal(1))
    refused = http.post(
        "/v1/jobs", json={"request": {**ASKED, "model": "gpt-5.4-mini"}}, headers=mine
    )
    assert refused.status_code == 403
    job_id = http.post("/v1/jobs", json={"request": ASKED}, headers=mine).json()["id"]
    assert http.get(f"/v1/jobs/{job_id}", headers=not_mine).status_code == 404
    assert http.get("/v1/jobs", headers=not_mine).json()["data"] == []
    work(server)
    assert http.get(f"/v1/jobs/{job_id}", headers=mine).json()["state"] == "finished"
    spent = {each.of: each.spent_requests for each in server.gateway.budgets.all()}
    assert spent == {key.key_id: 1}


def test_a_job_that_was_cancelled_is_not_begun(server: Running, http: httpx.Client) -> None:
    job_id = http.post("/v1/jobs", json={"requests": [ASKED] * 3}).json()["id"]
    assert http.post(f"/v1/jobs/{job_id}/cancel").json()["state"] == "cancelled"
    work(server)
    assert server.log.sql("FROM calls").height == 0
    states = [
        json.loads(x)["state"] for x in http.get(f"/v1/jobs/{job_id}/result").text.splitlines()
    ]
    assert states == ["cancelled"] * 3


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"requests": []},
        {"request": ASKED, "requests": [ASKED]},
        {"request": {**ASKED, "stream": True}},
        {"request": ASKED, "callback_url": "http://169.254.169.254/latest"},
        {"request": ASKED, "priority": 1000},
    ],
)
def test_what_cannot_be_is_refused(http: httpx.Client, body: dict[str, object]) -> None:
    assert http.post("/v1/jobs", json=body).status_code == 400
    assert http.get("/v1/jobs").json()["data"] == []
    assert http.get("/v1/jobs/nothing").status_code == 404
