"""Stage 7: an engine -> people."""
