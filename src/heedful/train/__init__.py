"""Stage 3: batches -> an updated model."""

from heedful.verb import make_callable

make_callable(__name__)
