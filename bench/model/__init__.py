"""Weights, from wherever they come, and the reference implementation of each architecture."""
