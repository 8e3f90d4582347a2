"""Stage 2: conversations -> examples -> batches."""
