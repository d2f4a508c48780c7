"""Artefacts of trained models: the bytes are the name, and altered bytes are refused."""

import json
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tracemill.errors import InputError, UsageError
from tracemill.llm.trained import artefact

ABOUT = {"kind": "test", "labels": ["a", "ü"]}


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    artefact.save(folder, ABOUT, {"w": np.arange(6, dtype=np.int8).reshape(2, 3)})
    return folder


def copy(folder: Path, to: Path) -> Path:
    to.mkdir()
    for file in folder.iterdir():
        (to / file.name).write_bytes(file.read_bytes())
    return to


def test_what_was_saved_is_loaded(saved: Path):
    digest = artefact.digest_of(saved)
    loaded = artefact.load(saved, digest)
    assert (loaded.about, loaded.digest) == (ABOUT | {"format": 1}, digest)
    assert {name: array.tolist() for name, array in loaded.weights.items()} == {
        "w": [[0, 1, 2], [3, 4, 5]]
    }
    assert artefact.size_bytes(saved) == sum(file.stat().st_size for file in saved.iterdir())


def test_the_same_content_has_the_same_bytes(saved: Path, tmp_path: Path):
    turned = dict(reversed(ABOUT.items()))
    digest = artefact.save(tmp_path / "m", turned, {"w": np.arange(6, dtype=np.int8).reshape(2, 3)})
    assert digest == artefact.digest_of(saved)


@given(st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_altered_byte_is_refused(saved: Path, data: st.DataObject):
    digest = artefact.digest_of(saved)
    path = saved / data.draw(st.sampled_from([artefact.ABOUT, artefact.WEIGHTS]))
    whole = path.read_bytes()
    at = data.draw(st.integers(0, len(whole) - 1))
    other = whole[at] ^ data.draw(st.integers(1, 255))
    try:
        path.write_bytes(whole[:at] + bytes([other]) + whole[at + 1 :])
        with pytest.raises(InputError, match=f"was altered: .* not {digest}; delete the folder"):
            artefact.load(saved, digest)
    finally:
        path.write_bytes(whole)


@pytest.mark.parametrize("missing", [artefact.ABOUT, artefact.WEIGHTS])
def test_half_a_model_is_none(saved: Path, tmp_path: Path, missing: str):
    folder = copy(saved, tmp_path / "m")
    (folder / missing).unlink()
    with pytest.raises(InputError, match="there is no trained model here"):
        artefact.load(folder)


@pytest.mark.parametrize(("name", "text"), [(artefact.ABOUT, "{"), (artefact.WEIGHTS, "pickle")])
def test_what_is_no_artefact_is_said(saved: Path, tmp_path: Path, name: str, text: str):
    folder = copy(saved, tmp_path / "m")
    (folder / name).write_text(text)
    with pytest.raises(InputError, match="this is no trained model"):
        artefact.load(folder)


def test_a_format_of_tomorrow_is_refused(saved: Path, tmp_path: Path):
    folder = copy(saved, tmp_path / "m")
    (folder / artefact.ABOUT).write_text(json.dumps(ABOUT | {"format": 2}))
    with pytest.raises(InputError, match="of format 2, and this tracemill reads 1: train it again"):
        artefact.load(folder)


def test_a_model_is_published_once_by_however_many(saved: Path, tmp_path: Path):
    found: list[str] = []
    threads = [
        threading.Thread(target=lambda: found.append(artefact.publish(saved, tmp_path, "routing")))
        for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    digest = artefact.digest_of(saved)
    assert found == [digest] * 6
    assert [path.name for path in (tmp_path / "routing").iterdir()] == [digest]
    assert artefact.load(artefact.folder_of(tmp_path, "routing", digest), digest).about["kind"]


@pytest.mark.parametrize("left", ["altered", "half"])
def test_what_is_damaged_is_published_anew(saved: Path, tmp_path: Path, left: str):
    digest = artefact.publish(saved, tmp_path, "routing")
    weights = artefact.folder_of(tmp_path, "routing", digest) / artefact.WEIGHTS
    weights.write_bytes(b"x") if left == "altered" else weights.unlink()
    assert artefact.publish(saved, tmp_path, "routing") == digest
    assert artefact.load(weights.parent, digest).weights


@pytest.mark.parametrize("name", ["", "..", "../x", "a/b", ".hidden", "a b", "x" * 101, "a\n"])
def test_a_name_cannot_leave_the_folder(name: str):
    with pytest.raises(UsageError, match="a model's name has letters"):
        artefact.folder_of(Path(), name, "0" * 16)


@pytest.mark.parametrize("digest", ["", "..", "A" * 16, "0" * 15, "0" * 17])
def test_a_version_is_a_digest(digest: str):
    with pytest.raises(UsageError, match="a model's version is 16 hex digits"):
        artefact.folder_of(Path(), "routing", digest)
