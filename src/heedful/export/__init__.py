"""Stage 8: a run -> an artefact for other programs, proven to be the run's model."""

from heedful.callable_package import make_callable

make_callable(__name__)
