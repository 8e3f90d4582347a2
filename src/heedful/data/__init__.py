"""Stage 1: rows -> conversations."""
