"""What is stored: pydantic models with an id."""
