"""The search: losses, the bilevel loop, and the way from gates to a genotype."""
