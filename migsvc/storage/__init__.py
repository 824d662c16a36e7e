"""What outlives the agent: the catalogue (SQLite) and the snapshot files, both under one data directory."""
