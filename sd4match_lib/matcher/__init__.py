"""Matching pictures of your own."""
