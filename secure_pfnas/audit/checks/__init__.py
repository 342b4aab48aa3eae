"""One claim a file: a pure function from what was captured to a finding."""
