"""Schema of the edge's database, as Alembic revisions (see kit.db.migrate)."""
