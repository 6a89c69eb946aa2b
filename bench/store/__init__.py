"""Run folders → DuckDB, and what is asked of it."""
