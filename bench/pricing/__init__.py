"""Prices as data, what an embedding costs, and how many machines a load takes. Pure: it reads price files and is handed samples."""
