"""Stage 5: answers -> scores."""

from heedful.callable_package import make_callable

make_callable(__name__)
