"""Property tests here have no deadline: the first example pays for imports, and the machine may be busy."""

from hypothesis import settings

settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")
