"""Image data sets in, disjoint parts and deterministic batches out."""
