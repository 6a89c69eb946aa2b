"""A run: which arm serves what and when, within the budget, and what is kept of it."""
