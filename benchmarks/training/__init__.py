"""Training steps per second, convae against its peers; `python -m benchmarks.training --help`."""
