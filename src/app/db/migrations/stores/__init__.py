"""How each store is migrated."""
