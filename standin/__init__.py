"""A small model of our own that stands in for a real one: its generated data, its training and its evaluation."""
