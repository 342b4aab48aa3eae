"""Sums under homomorphic encryption, for silos that trust each other and not the server."""
