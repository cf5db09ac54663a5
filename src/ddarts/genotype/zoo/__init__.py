"""Published architectures and hand-made networks, by name."""
