"""Embeddings: stores of vectors, providers of vectors, and what is found by them."""
