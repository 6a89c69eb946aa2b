"""Texts and images: generated, from documentation, or the user's own; hard inputs; sets that quality is judged by."""
