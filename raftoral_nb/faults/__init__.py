"""Faults as data, and their player."""
