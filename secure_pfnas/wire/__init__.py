"""Bytes between parties: bounded codec, identities, sealed envelopes, chunks."""
