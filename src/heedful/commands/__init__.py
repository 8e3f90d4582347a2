"""The verbs of the command line: their options, and what they do beyond the pipeline. Importing it takes no torch."""
