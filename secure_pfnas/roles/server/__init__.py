"""The aggregator's side of a federation, as a reducer; a file a concept."""

from secure_pfnas.roles.server.desk import ServerMemory
from secure_pfnas.roles.server.reducer import Server
from secure_pfnas.roles.server.timing import GRACE_MS

__all__ = ["GRACE_MS", "Server", "ServerMemory"]
