"""Service hours as times, which limit when calls are made. Before, the rules had them in words only."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

HOURS = {"opens": "09:00", "closes": "21:00"}  # the words of all shops so far say the same


def upgrade() -> None:
    """Write the times into every tenant's rules."""
    _rewrite(lambda service: {**HOURS, **service})


def downgrade() -> None:
    """Remove the times."""
    _rewrite(lambda service: {name: value for name, value in service.items() if name not in HOURS})


def _rewrite(changed) -> None:
    connection = op.get_bind()
    policies = sa.table("policies", sa.column("tenant"), sa.column("rules", sa.JSON))
    for tenant, rules in connection.execute(sa.select(policies.c.tenant, policies.c.rules)).all():
        new = {**rules, "service": changed(rules["service"])}
        connection.execute(policies.update().where(policies.c.tenant == tenant).values(rules=new))
