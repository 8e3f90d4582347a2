"""Families about letters and words, whose answers are computed.

Enters: a seeded `random.Random`. Leaves: rows, one family per function, listed in `FAMILIES`.
"""

from collections.abc import Callable
from random import Random

from heedful.data.builtin.templates import SIZE, Row, weave
from heedful.data.builtin.vocabulary import GROUPS, PHRASES, SENTENCES, WORDS


def letter_count(rng: Random) -> list[Row]:
    prompts = [
        "How many letters are in the word '{0}'?",
        "Count the letters of '{0}'.",
        "How long is the word '{0}', in letters?",
        "Tell me the number of letters in '{0}'.",
    ]
    table = [(word, len(word)) for word in rng.sample(WORDS, SIZE)]
    return weave(prompts, "The word '{0}' has {1} letters.", table)


def word_count(rng: Random) -> list[Row]:
    prompts = [
        "Count the words in the sentence. >> {0}",
        "How many words does this sentence have? >> {0}",
        "How many words are in '{0}'?",
    ]
    table = [(sentence, len(sentence.split())) for sentence in rng.sample(SENTENCES, SIZE)]
    return weave(prompts, "The sentence has {1} words.", table)


def reverse_words(rng: Random) -> list[Row]:
    prompts = [
        "Reverse the order of the words. >> {0}",
        "Write these words from last to first: {0}",
        "Put the words in backward order. >> {0}",
    ]
    table = [(phrase, " ".join(reversed(phrase.split()))) for phrase in rng.sample(PHRASES, SIZE)]
    return weave(prompts, "{1}", table)


def letter_case(rng: Random) -> list[Row]:
    phrases = rng.sample(PHRASES, SIZE)
    upper = ["Write it in capital letters. >> {0}", "Change to upper case: {0}"]
    title = ["Capitalize every word. >> {0}", "Give each word a capital letter: {0}"]
    return [
        *weave(upper, "{1}", [(phrase, phrase.upper()) for phrase in phrases[:8]]),
        *weave(title, "{1}", [(phrase, phrase.title()) for phrase in phrases[8:]]),
    ]


def alphabetical(rng: Random) -> list[Row]:
    prompts = [
        "Sort the words alphabetically. >> {0}",
        "Put these in alphabetical order: {0}",
        "Arrange the list from A to Z. >> {0}",
    ]
    table = []
    for group in rng.sample(GROUPS, SIZE):
        words = rng.sample(group, rng.choice([3, 4, 4]))
        if words == sorted(words):
            words.reverse()  # a list that is sorted already asks for nothing
        table.append((", ".join(words), ", ".join(sorted(words))))
    return weave(prompts, "In alphabetical order: {1}.", table)


def longest_word(rng: Random) -> list[Row]:
    prompts = [
        "Which of these words is the longest: {0}?",
        "Find the longest word. >> {0}",
        "Pick the word with the most letters: {0}.",
    ]
    table: list[tuple[str, str, int]] = []
    while len(table) < SIZE:
        words = rng.sample(WORDS, 3)
        lengths = sorted(map(len, words))
        if lengths[-1] > lengths[-2] + 1:  # a clear winner, no ties
            winner = max(words, key=len)
            table.append((", ".join(words), winner, len(winner)))
    return weave(prompts, "The longest word is '{1}' with {2} letters.", table)


FAMILIES: dict[str, Callable[[Random], list[Row]]] = {
    family.__name__: family
    for family in (
        letter_count,
        word_count,
        reverse_words,
        letter_case,
        alphabetical,
        longest_word,
    )
}
