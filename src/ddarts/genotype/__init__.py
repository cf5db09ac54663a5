"""Architectures as data: genotypes, gates, the rules between them, and distances."""
