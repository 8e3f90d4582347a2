"""How near an answer is to its reference, and whether it ended well.

Enters: an answer and its reference as text, or a Completion. Leaves: a float, per row; higher is better unless the name
stands in LOWER_IS_BETTER or UNDIRECTED. Nothing here averages: means and their intervals are `stats`.

chrF and BLEU keep sacrebleu's scale, 0 to 100; all other scores of likeness run from 0 to 1.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from itertools import chain, islice
from typing import Any

from heedful.records import CHECK_PREFIX, Completion

# Scripts written without spaces between words (Thai, Lao, Burmese, Khmer, kana, Han): each character is a token.
_SPACELESS = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3041-\u30fa\u30fc-\u30ff"
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff"
)
_HAN_ONLY = re.compile("[\u3005-\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")
_SPACELESS_CHARACTER = re.compile(f"[{_SPACELESS}]")
# Letters of other scripts than Latin, with the vowel signs of India (Greek, Cyrillic, Arabic, Devanagari, Hangul, ...).
_OTHER_LETTER = "[^\\W_\x00-\u036f\u1e00-\u1eff\u2000-\u2dff\ua720-\ua7ff\uff00-\uff65]|[\u0900-\u0963\u0966-\u0dff]"
_ROUGE_TOKEN = re.compile(f"[a-z0-9]+|[{_SPACELESS}]|(?:(?![{_SPACELESS}])(?:{_OTHER_LETTER}))+")
_APART = f"(?:(?<!\\w)|(?<=[{_SPACELESS}]))"  # no word goes on here
_OF_A_NUMBER = re.compile(
    rf"{_APART}-(?=[$\u00a2-\u00a5\u20a0-\u20cf]?\.?\d)"  # a minus
    r"|(?<=\d)(?:[.:/-]|,(?!(?:\d\d,)*\d{3}(?!\d)))(?=\d)"  # between digits, but for the commas of 1,000 and 1,00,000
    rf"|{_APART}(?<!\.)\.(?=\d)"  # .5
)
_ASCII_FORMS = dict.fromkeys([*range(0x2010, 0x2016), 0x2212], "-")  # dashes and the minus, and what is of full width
_ASCII_FORMS |= {code: chr(code - 0xFEE0) for code in (0xFF0C, 0xFF0D, 0xFF0E, 0xFF0F, 0xFF1A)}
_ARTICLES = frozenset({"a", "an", "the"})

LOOP_LONGEST = 20  # tokens in the n-gram that repeats
LOOP_REPEATS = 4
LOOP_TOKENS = 20  # that the repeats cover


def exact_match(answer: str, reference: str) -> float:
    """Return 1 if the two are equal after stripping outer white space."""
    return float(answer.strip() == reference.strip())


def normalised_match(answer: str, reference: str) -> float:
    """Return 1 if the two are equal once case, punctuation, articles and white space are folded (see `words`)."""
    return float(words(answer) == words(reference))


def token_f1(answer: str, reference: str) -> float:
    """Return the F1 of the two bags of words; 1 if both are empty.

    SQuAD's evaluate-v2.0.py (Rajpurkar et al. 2018), but for numbers (see `words`); for scripts without spaces as MLQA
    does (Lewis et al. 2020).
    """
    found, wanted = words(answer), words(reference)
    if not found or not wanted:
        return float(found == wanted)
    return _f1((Counter(found) & Counter(wanted)).total(), len(found), len(wanted))


def rouge_l(answer: str, reference: str) -> float:
    """Return the F1 of the longest common subsequence of tokens; 0 if either has none.

    ROUGE-L of one sentence (Lin 2004, section 3.1, beta = 1), as the package rouge-score gives it without stemming.
    """
    found, wanted = rouge_tokens(answer), rouge_tokens(reference)
    return _f1(longest_common(found, wanted), len(found), len(wanted))


def chrf(answer: str, reference: str) -> float:
    """Return chrF2 from 0 to 100: character n-grams up to 6, recall twice as heavy (Popović 2015; sacrebleu)."""
    return float(_sacrebleu("chrf").sentence_score(answer, [reference]).score)


def bleu(answer: str, reference: str) -> float:
    """Return sentence BLEU from 0 to 100 (Papineni et al. 2002; Post 2018: sacrebleu, smoothing exp, effective order).

    Tokens are 13a's; sacrebleu's "zh" where the reference holds Han characters, "char" where it holds kana, Thai, ...
    """
    return float(_sacrebleu(_bleu_tokenizer(reference)).sentence_score(answer, [reference]).score)


def corpus_counts(answer: str, reference: str) -> dict[str, list[int]]:
    """Count what corpus BLEU and chrF add up over rows: n-grams found, wanted and in common, and lengths."""
    return {
        name: [int(count) for count in metric._extract_corpus_statistics([answer], [[reference]])[0]]
        for name, metric in (
            ("corpus_bleu", _sacrebleu(_bleu_tokenizer(reference))),
            ("corpus_chrf", _sacrebleu("chrf")),
        )
    }


def corpus_score(name: str, counts: Iterable[float]) -> float:
    """Return corpus BLEU or chrF, 0 to 100, of counts summed over rows: sacrebleu's, each row in its own tokens."""
    metric = _corpus_bleu() if name == "corpus_bleu" else _sacrebleu("chrf")
    return float(metric._compute_score_from_stats([round(count) for count in counts]).score)


def length_ratio(answer: str, reference: str) -> float:
    """Return the characters of the answer per character of the reference, outer white space stripped.

    An empty reference counts as one character long, so that the ratio is finite; both empty is 1.
    """
    found, wanted = len(answer.strip()), len(reference.strip())
    return found / max(wanted, 1) if found or wanted else 1.0


def distinct(answers: Iterable[str], n: int) -> float:
    """Return the share of different n-grams among all n-grams of the answers; 1 if there are none to repeat.

    distinct-n (Li et al. 2016, section 5.2), here per n-gram rather than per word, so that 1 means "nothing twice".
    """
    grams = list(chain.from_iterable(ngrams(rouge_tokens(answer), n) for answer in answers))
    return len(set(grams)) / len(grams) if grams else 1.0


def looped(token_ids: Sequence[int]) -> bool:
    """Tell whether an answer fell into a loop: it ends in repeats of one n-gram, the last perhaps cut short.

    The n-gram has 1 to 20 tokens, stands there at least 4 times, and its repeats cover at least 20 tokens: n = 1 takes
    20 repeats, n = 3 takes 7, n = 20 takes 4. A tail has period n exactly when it equals itself moved by n.
    """
    for n in range(1, LOOP_LONGEST + 1):
        width = n * max(LOOP_REPEATS, -(-LOOP_TOKENS // n))
        tail = token_ids[-width:]
        if len(tail) == width and tail[n:] == tail[:-n]:
            return True
    return False


def words(text: str) -> list[str]:
    """Return the words of SQuAD's normal form: lower case, no punctuation or symbols, no articles.

    Unicode's categories P and S stand for `string.punctuation`, which is their ASCII part. A character of a script
    without spaces is a word. Two differences from SQuAD are deliberate. What makes another number is kept, a minus
    before it and what stands between its digits: "-5" is not "5", nor "3.5" "35", but "1,000" is "1000". And so is what
    folding would leave nothing of: "A." is ["a"], "?" is ["?"].
    """
    folded = unicodedata.normalize("NFC", text).lower().translate(_ASCII_FORMS)
    kept = {found.start() for found in _OF_A_NUMBER.finditer(folded)}
    bare = "".join(c for place, c in enumerate(folded) if place in kept or unicodedata.category(c)[0] not in "PS")
    tokens = spaced(bare).split()
    return [token for token in tokens if token not in _ARTICLES] or tokens or folded.split()


def spaced(text: str) -> str:
    """Put spaces around each character of a script without spaces."""
    return _SPACELESS_CHARACTER.sub(r" \g<0> ", text)


def rouge_tokens(text: str) -> list[str]:
    """Return rouge-score's tokens, runs of [a-z0-9] in lower case, and those of the scripts that it throws away.

    A character of a script without spaces is a token, of any other script than Latin each run of letters is one.
    Text in Latin script therefore scores exactly as by rouge-score, accented letters (separators there) included.
    """
    return _ROUGE_TOKEN.findall(text.lower())


def longest_common(first: Sequence[str], second: Sequence[str]) -> int:
    """Return the length of the longest common subsequence.

    Bit i of `open_` is 0 once the subsequence has grown at first[i]: a row of the table in one integer (Hyyrö 2004).
    """
    places: dict[str, int] = {}
    for index, token in enumerate(first):
        places[token] = places.get(token, 0) | 1 << index
    full = (1 << len(first)) - 1
    open_ = full
    for token in second:
        hits = open_ & places.get(token, 0)
        open_ = (open_ + hits | open_ - hits) & full
    return len(first) - open_.bit_count()


def ngrams(tokens: Sequence[str], n: int) -> Iterable[tuple[str, ...]]:
    """Yield each run of n tokens: [a, b, c] by 2 gives (a, b), (b, c)."""
    return zip(*(islice(tokens, start, None) for start in range(n)), strict=False)


def _f1(common: int, found: int, wanted: int) -> float:
    """Return the harmonic mean of common/found and common/wanted."""
    return 2 * common / (found + wanted) if common else 0.0


def _bleu_tokenizer(reference: str) -> str:
    if not _SPACELESS_CHARACTER.search(reference):
        return "13a"
    return "char" if _SPACELESS_CHARACTER.search(_HAN_ONLY.sub("", reference)) else "zh"


@cache
def _sacrebleu(kind: str) -> Any:
    from sacrebleu.metrics import BLEU, CHRF

    return CHRF() if kind == "chrf" else BLEU(tokenize=kind, effective_order=True)


@cache
def _corpus_bleu() -> Any:
    """Make the BLEU that turns sums into a score: over all four orders, unlike that of a sentence."""
    from sacrebleu.metrics import BLEU

    return BLEU()


METRICS: Mapping[str, Callable[[str, str], float]] = {
    "exact_match": exact_match,
    "normalised_match": normalised_match,
    "token_f1": token_f1,
    "rouge_l": rouge_l,
    "chrf": chrf,
    "bleu": bleu,
    "length_ratio": length_ratio,
    "distinct_1": lambda answer, _: distinct([answer], 1),
    "distinct_2": lambda answer, _: distinct([answer], 2),
}
"""What an answer scores against its reference."""

STOP_HEALTH: Mapping[str, Callable[[Completion], float]] = {
    "stopped": lambda completion: float(completion.finish_reason == "stop"),
    "length_capped": lambda completion: float(completion.finish_reason == "length"),
    "looped": lambda completion: float(looped(completion.token_ids)),
}
"""How an answer ended: by a stop token or at the cap, one of the two; and whether in a loop, possible with either."""

RATIOS: Mapping[str, str] = {"nll": "targets", "bits_per_byte": "bytes"}
"""Means per token or byte of the reference, not per row: each with what a row weighs in it."""

CORPUS = ("corpus_bleu", "corpus_chrf")
"""Scores of all answers at once, from counts that are summed over rows."""

SHARES = frozenset({"exact_match", "normalised_match", "stopped", "length_capped", "looped", "chosen", "judge_wins"})
"""Scores that say of each row whether something is true; checks are such too (see `is_share`)."""

LOWER_IS_BETTER = frozenset({"nll", "bits_per_byte", "length_capped", "looped"})
UNDIRECTED = frozenset({"length_ratio", "distinct_1", "distinct_2"})


def higher_is_better(name: str) -> bool | None:
    """Tell a score's direction; None if neither way is better."""
    return None if name in UNDIRECTED else name not in LOWER_IS_BETTER


def is_share(name: str) -> bool:
    """Tell whether a score's mean is the share of the rows of which something is true."""
    return name in SHARES or name.startswith(CHECK_PREFIX)
