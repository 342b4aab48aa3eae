"""What a release costs, what bounds it, what noises it, and who remembers.

Rules of this room:
    * The unit is one record under add/remove adjacency. Training and validation records are
      disjoint, so each kind has its own ε.
    * Sampling, clipping, noise and the event they are charged as are decided together in ``plan``
      and never change once a federation has begun.
    * Integers and numpy only; no clock, no socket, no generator of its own.
"""
