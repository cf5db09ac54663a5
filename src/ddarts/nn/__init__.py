"""The network of a genotype, and the modules that it is made of."""
