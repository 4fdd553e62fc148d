"""The tables and columns of the tasks: payment, address, refunds, invoices, accounts, tickets, goods, rules, keys."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

ID = sa.String(128)
NUMBER = sa.String(8)
CALLER = sa.String(140)
MOMENT = sa.DateTime(timezone=True)
# SKUs by the names that goods had in orders before there was a table of products.
SKUS = {"真无线耳机": "AU-101", "保温杯": "HM-501", "双肩包": "TR-902", "机械键盘": "PC-701", "台灯": "HM-601"}


def upgrade() -> None:
    """Add columns to orders and customers, create the new tables, then fill them from the old rows."""
    op.add_column("customers", sa.Column("newsletter", sa.Boolean, nullable=False, server_default=sa.false()))
    op.add_column("customers", sa.Column("deletion_on", sa.Date))
    op.add_column("orders", sa.Column("address", sa.String(310), nullable=False, server_default=""))
    op.add_column("orders", sa.Column("payment_status", sa.String(20), nullable=False, server_default="paid"))
    op.add_column("orders", sa.Column("payment_zh", sa.String(50)))
    op.add_column("orders", sa.Column("payment_en", sa.String(50)))
    _about_orders()
    _about_customers()
    _about_the_shop()
    _old_rows()


def _about_orders() -> None:
    op.create_table(
        "refunds",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("tenant", ID, nullable=False),
        sa.Column("number", NUMBER, nullable=False),
        sa.Column("status", sa.String(20), nullable=False),
        sa.Column("amount_minor", sa.Integer, nullable=False),
        sa.Column("reason", sa.String(500), nullable=False),
        sa.Column("requested_on", sa.Date, nullable=False),
        sa.Column("expected_on", sa.Date),
        sa.Column("paid_on", sa.Date),
        sa.ForeignKeyConstraint(["tenant", "number"], ["orders.tenant", "orders.number"]),
    )
    op.create_index("refunds_of_order", "refunds", ["tenant", "number"])
    op.create_table(
        "invoices",
        sa.Column("tenant", ID, primary_key=True),
        sa.Column("number", NUMBER, primary_key=True),
        sa.Column("status", sa.String(20), nullable=False),
        sa.Column("title", sa.String(100), nullable=False),
        sa.Column("requested_at", MOMENT, nullable=False),
        sa.ForeignKeyConstraint(["tenant", "number"], ["orders.tenant", "orders.number"]),
    )


def _about_customers() -> None:
    op.create_table(
        "addresses",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("tenant", ID, nullable=False),
        sa.Column("customer_id", ID, nullable=False),
        sa.Column("address", sa.String(310), nullable=False),
        sa.Column("is_default", sa.Boolean, nullable=False),
        sa.ForeignKeyConstraint(["tenant", "customer_id"], ["customers.tenant", "customers.id"]),
    )
    op.create_index("addresses_of_customer", "addresses", ["tenant", "customer_id"])
    op.create_table(
        "password_resets",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("tenant", ID, nullable=False),
        sa.Column("customer_id", ID, nullable=False),
        sa.Column("requested_at", MOMENT, nullable=False),
        sa.ForeignKeyConstraint(["tenant", "customer_id"], ["customers.tenant", "customers.id"]),
    )
    op.create_table(
        "tickets",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("tenant", ID, nullable=False),
        sa.Column("caller", CALLER, nullable=False),
        sa.Column("kind", sa.String(20), nullable=False),
        sa.Column("text", sa.String(2000), nullable=False),
        sa.Column("number", NUMBER),
        sa.Column("call_at", MOMENT),
        sa.Column("rating", sa.Integer),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("answer_by", MOMENT, nullable=False),
    )


def _about_the_shop() -> None:
    op.create_table(
        "products",
        sa.Column("tenant", ID, primary_key=True),
        sa.Column("sku", sa.String(20), primary_key=True),
        sa.Column("name_zh", sa.String(100), nullable=False),
        sa.Column("name_en", sa.String(100), nullable=False),
        sa.Column("synonyms", sa.JSON, nullable=False),
        sa.Column("price_minor", sa.Integer, nullable=False),
        sa.Column("currency", sa.String(3), nullable=False),
        sa.Column("stock", sa.Integer, nullable=False),
        sa.Column("warranty_months", sa.Integer, nullable=False),
        sa.Column("features_zh", sa.JSON, nullable=False),
        sa.Column("features_en", sa.JSON, nullable=False),
    )
    op.create_table("policies", sa.Column("tenant", ID, primary_key=True), sa.Column("rules", sa.JSON, nullable=False))
    op.create_table(
        "answered",
        sa.Column("tenant", ID, primary_key=True),
        sa.Column("caller", CALLER, primary_key=True),
        sa.Column("key", sa.String(255), primary_key=True),
        sa.Column("fingerprint", sa.String(64), nullable=False),
        sa.Column("status", sa.Integer, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sa.Column("at", sa.Float, nullable=False),
    )
    op.create_index("answered_by_age", "answered", ["at"])


def _old_rows() -> None:
    """Fill in old orders: the customer's address, the payment status, and a paid refund for each refunded amount."""
    _address_books()
    op.execute(
        "UPDATE orders SET address = coalesce((SELECT a.address FROM addresses a WHERE a.tenant = orders.tenant"
        " AND a.customer_id = orders.customer_id), '')"
    )
    op.execute("UPDATE orders SET payment_status = 'unpaid' WHERE status = 'awaiting_payment'")
    op.execute(
        "INSERT INTO refunds (tenant, number, status, amount_minor, reason, requested_on, expected_on, paid_on)"
        " SELECT tenant, number, 'paid', refunded_minor, '', delivered_on, delivered_on, delivered_on FROM orders"
        " WHERE refunded_minor > 0 AND delivered_on IS NOT NULL ORDER BY number"
    )
    _numbered_goods()


def _address_books() -> None:
    connection = op.get_bind()
    customers = connection.execute(sa.text("SELECT tenant, id, city, address FROM customers ORDER BY tenant, id")).all()
    rows = [
        {"tenant": tenant, "customer_id": id_, "is_default": True,
         "address": f"{street}, {city}" if city.isascii() else city + street}
        for tenant, id_, city, street in customers
    ]  # fmt: skip
    names = ("tenant", "customer_id", "address", "is_default")
    table = sa.table("addresses", *map(sa.column, names))
    if rows:
        connection.execute(table.insert(), rows)


def _numbered_goods() -> None:
    connection = op.get_bind()
    orders = sa.table("orders", sa.column("tenant"), sa.column("number"), sa.column("items", sa.JSON))
    for tenant, number, items in connection.execute(
        sa.select(orders.c.tenant, orders.c.number, orders.c["items"])
    ).all():
        known = [{**item, "sku": SKUS.get(item["name_zh"])} for item in items]
        same = (orders.c.tenant == tenant) & (orders.c.number == number)
        connection.execute(orders.update().where(same).values(items=known))


def downgrade() -> None:
    """Drop the new tables and columns with their content."""
    for table in (
        "answered", "policies", "products", "tickets", "password_resets", "addresses", "invoices", "refunds",
    ):  # fmt: skip
        op.drop_table(table)
    for column in ("payment_en", "payment_zh", "payment_status", "address"):
        op.drop_column("orders", column)
    for column in ("deletion_on", "newsletter"):
        op.drop_column("customers", column)
