"""What the pages ask of the results."""
