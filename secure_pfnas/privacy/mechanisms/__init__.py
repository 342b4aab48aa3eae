"""The noise mechanisms, one a file; each declares its sensitivity and its event."""
