"""A tokenizer's ids and a model's embeddings: do they fit? Tokens that a template adds get embeddings of their own."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from heedful.errors import ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from heedful.model.pretrained import Loaded


def vocabulary_size(model: PreTrainedModel) -> int:
    """Count the tokens that a model has embeddings for."""
    return int(model.get_input_embeddings().weight.shape[0])


def embeddings_of(tokenizer: PreTrainedTokenizerBase) -> int:
    """Return how many embeddings a tokenizer's ids need: more than it has tokens, where its vocabulary has gaps."""
    return 1 + int(max(tokenizer.get_vocab().values()))


def check(tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel, name: str) -> None:
    """Refuse a model that has fewer embeddings than its tokenizer's ids need."""
    rows = vocabulary_size(model)
    if (needed := _needed(tokenizer)) > rows:
        raise ModelError(f"{name}: the tokenizer's ids need {needed} embeddings, but the model has only {rows}.")


def check_ids(ids: Collection[int], model: PreTrainedModel) -> None:
    """Refuse ids for which a model has no embeddings: of special tokens that its template writes nevertheless."""
    rows = vocabulary_size(model)
    if max(ids, default=0) >= rows:
        raise ModelError(
            f"The template writes the token with the id {max(ids)}, but the model has only {rows} embeddings.",
            "Choose another with --set encode.template=alpaca (or chatml).",
        )


def fit_vocabulary(loaded: Loaded, tokenizer: PreTrainedTokenizerBase) -> int:
    """Give each token that a template added an embedding, the mean of those in use; return how many were added.

    Added is what the model's own tokenizer lacks, though the table may have rows to spare: those hold only noise.
    A model that was saved with such tokens has them in its tokenizer, and keeps what it learned.
    """
    model, known = loaded.model, set(loaded.tokenizer.get_vocab().values())
    added = set(tokenizer.get_vocab().values()) - known
    table, head = model.get_input_embeddings(), model.get_output_embeddings()
    rows, needed = vocabulary_size(model), 1 + max(added, default=-1)
    known = {i for i in known if i < rows}  # special tokens beyond have none, and need none
    if needed > rows:
        if head.weight is not table.weight:  # growing would tie them where the configuration does
            model.config.get_text_config().tie_word_embeddings = False
        model.resize_token_embeddings(needed, mean_resizing=False)
    fresh = sorted(added | set(range(rows, needed)))
    used = slice(len(known)) if len(known) == 1 + max(known) else sorted(known)  # a slice is no copy
    for embeddings in (model.get_input_embeddings(), model.get_output_embeddings()):  # which growing may have replaced
        if fresh:
            embeddings.weight.data[fresh] = embeddings.weight.data[used].mean(0)
    return len(added)


def _needed(tokenizer: PreTrainedTokenizerBase) -> int:
    """Return how many embeddings texts and ends need: a special token that no template writes needs none, as Gemma 3's
    `<image_soft_token>` in models of text alone."""
    special = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
    return 1 + int(max({*tokenizer.get_vocab().values()} - special | {tokenizer.eos_token_id}))
