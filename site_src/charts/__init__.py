"""Queries → Vega-Lite charts → pictures."""
