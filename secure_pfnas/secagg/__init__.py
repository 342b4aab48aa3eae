"""Secure aggregation per architecture slot: one upload a client, one survivor set a round."""
