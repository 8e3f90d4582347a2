"""Long documents with questions, and chats of many turns: made from a seed, so that everybody can have the same."""

from __future__ import annotations

import random
from typing import Any

SEED = 123
TURNS = 8
QUESTIONS = 8
NAMES = ("Ada", "Bo", "Clara", "Dmitri", "Edith", "Farid", "Greta", "Hugo", "Ines", "Jonas", "Kira", "Leo", "Mina")
TOWNS = ("Alder Bay", "Birchfield", "Cold Spring", "Dunmore", "Eastwick", "Fairhaven", "Glenrock", "Harrow", "Ivydale")
TRADES = ("baker", "carpenter", "clockmaker", "farmer", "gardener", "nurse", "painter", "sailor", "teacher", "weaver")
THINGS = ("a brass compass", "a blue door", "an old piano", "a stone bridge", "a red bicycle", "a map of the coast")
SEASONS = ("spring", "summer", "autumn", "winter")


def questions(documents: int, short: bool = False) -> list[dict[str, Any]]:
    """Make rows of (document and question, answer): a document has 8 and is 600 to 1,500 tokens long (BPE).

    The document stands before the question, as retrieval prompts and cached contexts have it.
    """
    choose = random.Random(SEED)
    rows = []
    for number in range(documents):
        facts = [_fact(choose) for _ in range(8 if short else choose.randint(25, 60))]
        document = f"Report {number + 1}. " + " ".join(text for text, _, _ in facts)
        for _, question, answer in choose.sample(facts, QUESTIONS):
            rows.append(_messages([f"{document}\n\nQuestion: {question}", answer]))
    return rows


def chats(count: int, short: bool = False) -> list[dict[str, Any]]:
    """Make chats of 8 turns, four of them answers; many begin alike."""
    choose = random.Random(SEED)
    rows = []
    for _ in range(count):
        turns = [f"Hello, I am {choose.choice(NAMES[:2])}.", "Hello! What would you like to know?"]
        while len(turns) < TURNS:
            text, question, answer = _fact(choose)
            turns += [f"{text} {question}" if short else f"Read this: {text} Then tell me: {question}", answer]
        rows.append(_messages(turns))
    return rows


def apart(count: int) -> list[dict[str, Any]]:
    """Make chats of one question, each with a system message of its own, so that only the template is shared."""
    choose = random.Random(SEED)
    rows = []
    for _ in range(count):
        text, question, answer = _fact(choose)
        rows.append({"messages": [{"role": "system", "content": text}, *_messages([question, answer])["messages"]]})
    return rows


def _fact(choose: random.Random) -> tuple[str, str, str]:
    """Make a sentence, a question about it, and the short answer."""
    name, town, trade = choose.choice(NAMES), choose.choice(TOWNS), choose.choice(TRADES)
    thing, season, year = choose.choice(THINGS), choose.choice(SEASONS), choose.randint(1801, 1999)
    text = f"In the {season} of {year}, {name} the {trade} came to {town} and found {thing}."
    asked, answer = choose.choice(
        [
            (f"Where did {name} the {trade} go in {year}?", f"To {town}."),
            (f"What did {name} find in {town} in {year}?", f"{thing[0].upper()}{thing[1:]}."),
            (f"When did {name} the {trade} come to {town}?", f"In the {season} of {year}."),
        ]
    )
    return text, asked, answer


def _messages(turns: list[str]) -> dict[str, Any]:
    roles = ("user", "assistant")
    return {"messages": [{"role": roles[i % 2], "content": text} for i, text in enumerate(turns)]}
