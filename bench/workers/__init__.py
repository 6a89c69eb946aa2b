"""Who serves: the worker programs, and the client that starts one and has it serve."""
