"""Everything with a clock, a socket, a thread or a file: drivers, broker, CA, storage."""
