"""A small model of our own that stands in for a real one: the data that it is trained on, generated."""
