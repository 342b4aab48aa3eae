"""A fair comparison: methods × seeds on the same partition, each cell a run folder of its own."""
