"""Measures the edge beside its peers: see loadtest/README.md."""
