"""Graphs that come with the platform."""
