"""A sweep: settings × seeds from one file, each cell a run folder of its own."""
