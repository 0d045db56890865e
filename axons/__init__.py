"""Axons on Ray: learn image segmentation by doing it."""

__version__ = "0.1.0"
