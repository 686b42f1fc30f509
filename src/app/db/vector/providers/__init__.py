"""The two factories: vector stores by name or engine, embeddings by name or provider."""
