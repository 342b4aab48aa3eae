"""Attacks on what is released, each with a lower bound to hold against the claimed ε.

Rules of this room:
    * An attack sees what its adversary would see, and what this adversary is told beforehand.
    * A lower bound is wrong with a stated probability at most; it never proves a claim, it only
      refutes one. Whoever changes noise must see it refuted when the noise is cut tenfold.
    * Arrays in, numbers out: what is attacked is played elsewhere.
"""
