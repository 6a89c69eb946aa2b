"""Stored results as text."""
