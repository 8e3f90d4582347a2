"""Stage 4: prompts -> answers."""

from heedful.callable_package import make_callable

make_callable(__name__)
