"""Stage 3: batches -> an updated model."""

from heedful.callable_package import make_callable

make_callable(__name__)
