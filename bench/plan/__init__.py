"""The exact requests of a model and a scenario, with their times, as hashed folders of tensors."""
