"""The tables' history, by Alembic. Nothing is compared or made up at run time: each step is written down."""
