"""What everything stands on: paths, errors, files, child processes, hashes, progress. Knows nothing of benchmarks."""
