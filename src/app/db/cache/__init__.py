"""Answers that are kept for a while, beside the process or in Redis, and never older than the last write."""
