"""Stage 3: batches -> an updated model."""
