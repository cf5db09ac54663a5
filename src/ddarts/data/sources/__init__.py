"""Readers of image data sets, one for each kind of source."""
