"""Drawings, curves and the page that shows a run."""
