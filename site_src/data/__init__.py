"""What pages ask of the results database."""
