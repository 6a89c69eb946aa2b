"""What is asked, as texts and images: generated, from documentation, or the user's own; hard inputs and sets that quality is judged by."""
