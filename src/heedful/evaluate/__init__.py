"""Stage 5: answers -> scores."""
