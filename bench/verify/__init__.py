"""`invoke verify`: the protocol's own proof, replayed on this machine."""
