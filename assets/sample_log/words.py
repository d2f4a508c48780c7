"""What the support and search team of Rill, a watering computer that does not exist, asks its models.

Parts that are put together at random; all of it is written for this sample.
"""

from random import Random

from tracemill.llm.prompt_files import Prompt

DEVICES = ("Rill One", "Rill Two", "Rill Mini", "the Rill drip kit", "the Rill rain sensor")
_OPENINGS = ("Hello,", "Good morning,", "Hi,", "Dear team,", "One question:", "Please help:", "")
_PROBLEMS = (
    "the valve stays open after the programme ends on {device}",
    "{device} has lost its schedule since the battery was changed",
    "the app says that {device} is offline though the lamp is green",
    "I cannot pair {device} with my new phone",
    "water drips from the thread where {device} meets the tap",
    "{device} waters at night although I set it to the morning",
    "how do I let {device} skip a day when it rains",
    "may {device} stay outside when it freezes",
    "the second zone never starts with {device}",
    "the display of {device} shows E{n} and nothing else",
    "how many metres of hose can {device} serve",
    "the pressure falls to nothing when {device} switches zones",
)
_DETAILS = (
    "It began {n} days ago.",
    "I have tried it {n} times.",
    "The firmware is 4.{n}.",
    "My garden has {n} beds on two levels.",
    "The tap is {n} metres from the house.",
    "I bought it in spring for a bed of {n} tomatoes.",
    "My neighbour has the same one and it works.",
    "The manual says nothing of it on page {n}.",
)
_ENDINGS = ("What can I do?", "Is that normal?", "Please advise.", "Thank you.", "What is next?")
_ANSWERS = (
    "Close the tap, take the battery out for a minute and put it back.",
    "Open the settings of the zone, choose Schedule, and save it once more.",
    "Hold the blue button until the lamp blinks twice, then pair it again.",
    "That is normal below six degrees: the valve rests to protect its seal.",
    "Clean the filter behind the inlet; sand there keeps the valve from closing.",
    "Move the sensor to a place that the sprinkler does not reach.",
    "Update the app first; the older one reads the clock of the phone wrongly.",
    "Turn the union by hand only and put a new flat washer between.",
)
_FURTHER = (
    "If it goes on, send us a picture of the label.",
    "Chapter {n} of the handbook has a drawing.",
    "It takes about {n} minutes.",
    "Nothing is lost by it.",
    "After that the second zone starts by itself.",
)
QUERIES = (
    "pair {device} new phone", "{device} battery life", "{device} error E{n}", "{device} winter",
    "skip rain day {device}", "{device} hose length", "reset {device}", "two zones {device}",
    "{device} firmware 4.{n}", "water pressure {device}", "{device} leaking at tap",
    "send back {device}", "{device} spare washer", "{device} manual page {n}",
)  # fmt: skip
_PAGES = (
    "I copied this from the page of a forum about gardens so that you see it all.",
    "Somebody there writes that the valve hums when the pump starts first.",
    "Another one answers that it was the cable, which lay beside the mains.",
    "Below it stands a list of parts with prices that I do not understand.",
    "The next paragraph is about lawns and may not matter here.",
    "At the end they say that a reset helped for a week.",
)  # fmt: skip
TOPICS = ("setup", "connection", "leak", "schedule", "refund", "delivery", "app", "winter")
COMMENTS = {
    1: ("that was it", "solved at once", "clear and short", "thank you, it waters again"),
    -1: ("does not answer my question", "this is another device", "too vague", "did not help"),
}

_SYSTEM = "You answer customers of Rill, the watering computer. Use the passages of the handbook. "
ANSWER_1 = Prompt(
    "support.answer",
    "A customer of {{ team }} writes:\n{{ question }}",
    _SYSTEM
    + "Say first what to do, in two or three sentences. Ask for the model if it is not said.",
    {"team": "string", "question": "string"},
    "Answers a question of a customer from the handbook.",
)
ANSWER_2 = Prompt(
    "support.answer",
    "A customer of {{ team }} writes:\n{{ question }}",
    _SYSTEM + "Be as short as you can. Look up the order of the customer before you answer.",
    {"team": "string", "question": "string"},
    "Shorter answers, with a look at the order.",
)
TRIAGE = Prompt(
    "support.triage",
    "Ticket:\n{{ ticket }}",
    'Answer with JSON: {"topic": one of our topics, "urgency": 1 to 5}.',
    {"ticket": "string"},
    "Sorts a ticket by topic and urgency.",
)
REWRITE = Prompt(
    "search.rewrite",
    "Rewrite for our search: {{ query }}",
    "Answer with the query alone, in the words of the handbook.",
    {"query": "string"},
    "Rewrites what somebody types into the search box.",
)
PROMPTS = (ANSWER_1, ANSWER_2, TRIAGE, REWRITE)


def filled(draw: Random, text: str) -> str:
    """A text with a device and numbers of its own."""
    return text.format(device=draw.choice(DEVICES), n=draw.randrange(2, 90))


def question(draw: Random) -> str:
    """What a customer writes."""
    opening, problem = draw.choice(_OPENINGS), filled(draw, draw.choice(_PROBLEMS))
    details = " ".join(filled(draw, each) for each in draw.sample(_DETAILS, draw.randrange(1, 4)))
    return f"{opening} {problem}. {details} {draw.choice(_ENDINGS)}".strip()


def query(draw: Random, pasted: bool) -> str:
    """What somebody types into the search box; `pasted`: a page of a forum behind it."""
    # A few queries are most of them, which is what a cache lives on.
    kind = min(int(draw.expovariate(0.3)), len(QUERIES) - 1)
    asked = QUERIES[kind].format(
        device=DEVICES[min(int(draw.expovariate(0.8)), 4)], n=draw.randrange(2, 8)
    )
    if not pasted:
        return asked
    return " ".join([f"{asked}.", *draw.choices(_PAGES, k=draw.randrange(4, 9))])


def answer(draw: Random) -> str:
    """What a model writes back to a customer."""
    more = " ".join(filled(draw, each) for each in draw.sample(_FURTHER, draw.randrange(1, 3)))
    return f"{draw.choice(_ANSWERS)} {more}"


def triaged(draw: Random) -> str:
    """What a model says of a ticket."""
    return f'{{"topic": "{draw.choice(TOPICS)}", "urgency": {draw.randrange(1, 6)}}}'
