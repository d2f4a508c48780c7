"""What local/extract answers, by the pytest plugin: a sample for each question, and the share decides."""

from typing import TYPE_CHECKING

import pytest

from tracemill import Settings
from tracemill.llm import passages
from tracemill.llm.passages import Passage

if TYPE_CHECKING:
    from tracemill.pytest_plugin.asking import Llm
    from tracemill.pytest_plugin.kept import Snapshot

PLACES = """
Lisbon, Portugal, the Tagus; Vienna, Austria, the Danube; Cairo, Egypt, the Nile
Seoul, South Korea, the Han; Prague, Czechia, the Vltava; Paris, France, the Seine
London, England, the Thames; Baghdad, Iraq, the Tigris; Rome, Italy, the Tiber
Warsaw, Poland, the Vistula; Kyiv, Ukraine, the Dnipro; Dublin, Ireland, the Liffey
Asuncion, Paraguay, the river of its name; Khartoum, Sudan, two rivers; Riga, Latvia, the Daugava
Vilnius, Lithuania, the Neris; Minsk, Belarus, the Svislach; Bern, Switzerland, the Aare
Madrid, Spain, the Manzanares; Ottawa, Canada, the river of its name
"""
KNOWN = [place.strip().split(", ", 2) for place in PLACES.replace("\n", ";").split(";") if place]
PASSAGES = [
    Passage(number, city, f"{city} is the capital of {country}. The city lies on {river}.")
    for number, (city, country, river) in enumerate(KNOWN, 1)
]


@pytest.fixture(scope="module")
def llm_warehouse(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return Settings(warehouse=tmp_path_factory.mktemp("answers") / "warehouse").create()


@pytest.mark.llm(samples=40, min_accuracy=0.85, model="local/extract")
def test_the_passage_that_answers_is_quoted_and_cited(llm: "Llm") -> None:
    number = len(llm.calls) % len(KNOWN)
    city, country, river = KNOWN[number]
    questions = (f"What is the capital of {country}?", f"On what does the city of {city} lie?")
    answer = llm.generate(passages.write(questions[len(llm.calls) // len(KNOWN)], PASSAGES)).text
    assert (river if len(llm.calls) > len(KNOWN) else city) in answer
    assert f"[{number + 1}]" in answer


@pytest.mark.llm(model="local/extract")
def test_an_answer_stays_as_it_was(llm: "Llm", snapshot: "Snapshot") -> None:
    question = "What is the capital of Egypt?"
    snapshot(llm.generate(passages.write(question, PASSAGES[:5])).text)
