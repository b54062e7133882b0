"""Widgets for notebooks, each with a still picture for batch runs."""
