"""One file per provider of embeddings."""
