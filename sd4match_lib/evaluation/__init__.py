"""Evaluating a method on a dataset, and scoring what other systems predicted."""
