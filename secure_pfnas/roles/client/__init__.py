"""The device's side of a federation, as a reducer; a file a concept."""

from secure_pfnas.roles.client.kit import HELLO_EVERY_MS, Memory
from secure_pfnas.roles.client.reducer import Client

__all__ = ["HELLO_EVERY_MS", "Client", "Memory"]
