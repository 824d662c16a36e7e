"""The steps of the catalogue's schema, oldest first."""
