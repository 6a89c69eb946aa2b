"""The record of a run as it lies on disk (RUNS.md): schema, writer, reader."""
