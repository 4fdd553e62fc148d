"""The history of the tables, by Alembic. Each step is written by hand; none is generated at run time."""
