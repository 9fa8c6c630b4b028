"""minidalle2 beside its peers, on one machine: `python -m tests.benchmarks --help`."""
