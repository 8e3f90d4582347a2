"""Stage 5: answers -> scores."""

from heedful.verb import make_callable

make_callable(__name__)
