"""Models that were trained here, called as any other: versions, production, log probabilities."""

import math
from collections.abc import Generator
from decimal import Decimal
from pathlib import Path

import pytest

from tests.finetune.labelled_made import WORDS, orders, write
from tracemill.errors import CallFailed
from tracemill.events import ModelPromoted, ModelRetired, ModelRolledBack
from tracemill.finetune.local import classify
from tracemill.llm.client import Client
from tracemill.llm.trained import artefact
from tracemill.messages import Request
from tracemill.settings import Settings

WHY = "it is better"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two classifiers: the second one has other names for the same departments."""
    made: list[Path] = []
    for names in (WORDS, {label.upper(): words for label, words in WORDS.items()}):
        folder = tmp_path_factory.mktemp("job")
        training = write(folder / "training.jsonl", orders(120, 1, names))
        asked = {"epochs": 5, "features": "both"}
        classify.train(training, None, folder, hyperparameters=asked, seed=1, report=lambda _: None)
        made.append(folder / "model")
    return made


@pytest.fixture
def client(tmp_path: Path) -> Generator[Client]:
    settings = Settings(warehouse=tmp_path / "warehouse").create()
    with Client.open(settings).log as log:
        yield Client(log, settings)


@pytest.fixture
def versions(client: Client, models: list[Path]) -> list[str]:
    assert client.settings
    return [artefact.publish(model, client.settings.models, "routing") for model in models]


def ask(client: Client, version: str = "", text: str = "iron anvil", **asked: object) -> str:
    model = "ft:local:routing" + (f":{version}" if version else "")
    return client.generate(Request.of(text, model=model, **asked)).text


def test_a_version_answers_with_its_label(client: Client, versions: list[str]):
    model = f"ft:local:routing:{versions[0]}"
    response = client.generate(Request.of("a blade of steel", model=model))
    assert (response.text, response.finish_reasons) == ("smithy", ("stop",))
    assert (response.response_model, response.logprobs) == (model, None)
    assert response.usage.input_tokens > 3
    assert response.usage.output_tokens > 0
    assert response.cost_usd is not None
    assert Decimal(0) < response.cost_usd < Decimal("0.00001")
    call = client.log.arrow("SELECT provider, request_model, response_model, status FROM calls")
    assert call.to_pylist() == [
        {"provider": "local", "request_model": model, "response_model": model, "status": "finished"}
    ]


def test_without_a_version_the_one_in_production_answers(client: Client, versions: list[str]):
    old, new = versions
    said: list[str] = []
    for event in (
        ModelPromoted(name="routing", digest=old, reason=WHY),
        ModelPromoted(name="routing", digest=new, previous=old, reason=WHY),
        ModelPromoted(name="other", digest=old, reason=WHY),
        ModelRolledBack(name="routing", digest=old, previous=new, reason=WHY),
        ModelRetired(name="routing", digest=new, reason=WHY),
    ):
        client.log.append(event)
        said.append(ask(client))
    assert said == ["smithy", "SMITHY", "SMITHY", "smithy", "smithy"]
    client.log.append(ModelRetired(name="routing", digest=old, reason=WHY))
    with pytest.raises(CallFailed, match="no version of routing is in production") as caught:
        ask(client)
    assert caught.value.error_type == "unknown_model"


def test_the_log_tells_which_version_answered(client: Client, versions: list[str]):
    client.log.append(ModelPromoted(name="routing", digest=versions[1], reason=WHY))
    ask(client)
    call = client.log.arrow("SELECT request_model, response_model FROM calls").to_pylist()
    assert call == [
        {"request_model": "ft:local:routing", "response_model": f"ft:local:routing:{versions[1]}"}
    ]


def test_the_response_cache_knows_versions_apart(client: Client, versions: list[str]):
    said: list[tuple[str, bool]] = []
    for digest in (versions[0], versions[1], versions[0]):
        client.log.append(ModelPromoted(name="routing", digest=digest, reason=WHY))
        response = client.generate(Request.of("iron", model="ft:local:routing"), cache="both")
        said.append((response.text, response.from_cache))
    assert said == [("smithy", False), ("SMITHY", False), ("smithy", True)]


def test_log_probabilities_are_those_of_all_labels(client: Client, versions: list[str]):
    model = f"ft:local:routing:{versions[0]}"
    response = client.generate(Request.of("iron anvil", model=model, logprobs=20))
    assert response.logprobs
    [told] = response.logprobs
    assert told.token == response.text == told.top[0].token
    assert told.logprob == told.top[0].logprob
    assert {each.token for each in told.top} == set(WORDS)
    assert sum(math.exp(each.logprob) for each in told.top) == pytest.approx(1, abs=1e-5)
    assert [each.logprob for each in told.top] == sorted(
        (each.logprob for each in told.top), reverse=True
    )


def test_as_many_alternatives_as_were_asked_for(client: Client, versions: list[str]):
    model = f"ft:local:routing:{versions[0]}"
    for count in (0, 1, 2):
        response = client.generate(Request.of("iron", model=model, logprobs=count))
        assert response.logprobs
        assert len(response.logprobs[0].top) == count


def test_a_stream_ends_with_the_same_answer(client: Client, versions: list[str]):
    request = Request.of("iron", model=f"ft:local:routing:{versions[0]}", logprobs=1)
    stream = client.stream(request)
    pieces = [delta.text for delta in stream]
    whole = client.generate(request)
    assert "".join(pieces) == whole.text == stream.response.text
    assert stream.response.logprobs == whole.logprobs


def test_instructions_are_seen_as_turns_are(client: Client, versions: list[str]):
    assert ask(client, versions[0], "as above", system="everything about the anvil") == "smithy"


def test_a_label_is_cut_where_no_more_may_be_written(client: Client, versions: list[str]):
    model = f"ft:local:routing:{versions[0]}"
    response = client.generate(Request.of("iron", model=model, max_output_tokens=1))
    assert response.finish_reasons == ("length",)
    assert "smithy".startswith(response.text)
    assert response.usage.output_tokens == 1


def test_a_version_that_is_not_here_is_said(client: Client, versions: list[str]):
    with pytest.raises(CallFailed, match=r"routing has no version 0{16} here") as caught:
        ask(client, "0" * 16)
    assert caught.value.error_type == "unknown_model"


@pytest.mark.parametrize("model", ["ft:local:", "ft:local:..:x", "ft:local:a/b", "ft:local:a:b:c"])
def test_a_name_that_is_none_is_said(client: Client, model: str):
    with pytest.raises(CallFailed) as caught:
        client.generate(Request.of("x", model=model))
    assert caught.value.error_type == "unknown_model"


def test_an_altered_model_does_not_answer(client: Client, versions: list[str]):
    assert client.settings
    # A folder of its own: what was loaded once stays in memory.
    weights = client.settings.models / "routing" / versions[0] / artefact.WEIGHTS
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(CallFailed, match="this model was altered") as caught:
        ask(client, versions[0])
    assert caught.value.error_type == "damaged_model"
    failed = client.log.arrow("SELECT error_type FROM calls").to_pylist()
    assert failed == [{"error_type": "damaged_model"}]


def test_models_that_choose_have_no_probabilities(client: Client):
    with pytest.raises(CallFailed, match="logprobs: local/echo chooses without probabilities"):
        client.generate(Request.of("x", model="local/echo", logprobs=1))
