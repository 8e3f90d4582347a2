"""Stage 4: prompts -> answers."""
