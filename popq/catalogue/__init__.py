"""What is known of each photo: the tables, who may change a row and when, and what people read.

Library: SQLAlchemy (with Alembic for migrations), here and nowhere else. Functions take the open
transaction as their first argument and never commit; the time of leases and pauses is the
database's clock.
"""
