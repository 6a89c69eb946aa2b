"""Artefacts: a model converted for a kind of runtime, at a precision, once."""
