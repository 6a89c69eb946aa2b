"""Paths, errors, files, child processes, hashes, progress: what every other package uses. Knows nothing of benchmarks."""
