"""The shop's first tables: customers, orders, inquiries and guests' attempts."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

ID = sa.String(128)
NUMBER = sa.String(8)


def upgrade() -> None:
    """Create the tables as `create_all` did."""
    op.create_table(
        "customers",
        sa.Column("tenant", ID, primary_key=True),
        sa.Column("id", ID, primary_key=True),
        sa.Column("name", sa.String(100), nullable=False),
        sa.Column("phone", sa.String(20), nullable=False),
        sa.Column("email", sa.String(254), nullable=False),
        sa.Column("address", sa.String(200), nullable=False),
        sa.Column("city", sa.String(100), nullable=False),
    )
    _orders()
    op.create_table(
        "inquiries",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("tenant", ID, nullable=False),
        sa.Column("key", sa.String(255), nullable=False),
        sa.Column("number", NUMBER, nullable=False),
        sa.Column("kind", sa.String(20), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["tenant", "number"], ["orders.tenant", "orders.number"]),
        sa.UniqueConstraint("tenant", "key"),
    )
    op.create_index("inquiries_of_order", "inquiries", ["tenant", "number"])
    op.create_table(
        "attempts",
        sa.Column("tenant", ID, primary_key=True),
        sa.Column("number", NUMBER, primary_key=True),
        sa.Column("window_s", sa.Integer, primary_key=True),
        sa.Column("tries", sa.Integer, nullable=False),
        sa.Column("since", sa.Float, nullable=False),
    )
    op.create_index("attempts_by_age", "attempts", ["since"])


def _orders() -> None:
    op.create_table(
        "orders",
        sa.Column("tenant", ID, primary_key=True),
        sa.Column("number", NUMBER, primary_key=True),
        sa.Column("customer_id", ID, nullable=False),
        sa.Column("status", sa.String(20), nullable=False),
        sa.Column("items", sa.JSON, nullable=False),
        sa.Column("amount_minor", sa.Integer, nullable=False),
        sa.Column("refunded_minor", sa.Integer, nullable=False),
        sa.Column("currency", sa.String(3), nullable=False),
        sa.Column("placed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("carrier_zh", sa.String(50)),
        sa.Column("carrier_en", sa.String(50)),
        sa.Column("tracking_number", sa.String(40)),
        sa.Column("delivered_on", sa.Date),
        sa.Column("delivered_days_ago", sa.Integer),
        sa.ForeignKeyConstraint(["tenant", "customer_id"], ["customers.tenant", "customers.id"]),
    )
    op.create_index("orders_of_customer", "orders", ["tenant", "customer_id"])


def downgrade() -> None:
    """Drop these tables."""
    for table in ("attempts", "inquiries", "orders", "customers"):
        op.drop_table(table)
