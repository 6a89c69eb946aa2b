"""Builds, artefacts, plans and commands of the arms of a run: whatever can fail with a cure, before anything is timed."""
