"""Stage 6: a run -> pictures and tables."""
