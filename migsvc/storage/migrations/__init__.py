"""The catalogue's Alembic environment, shipped inside the package."""
