"""Stage 4: prompts -> answers."""

from heedful.verb import make_callable

make_callable(__name__)
