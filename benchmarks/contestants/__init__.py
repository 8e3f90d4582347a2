"""One contestant a file; each is run as `python -m benchmarks.contestants.NAME` and prints one line of JSON."""
