"""The supernet: every candidate operation on every edge, weighted by gates."""
