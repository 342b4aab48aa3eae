"""Cells: runs under settings and a seed, each in a folder and a process of its own."""
