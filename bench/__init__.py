"""Measures embedding models on CPUs. The packages in the order of the flow: see CONTRIBUTING.md."""
