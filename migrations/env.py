"""Alembic's environment: migrate on the connection that `popq.catalogue.migrate` hands over."""

from alembic import context

from popq.catalogue.db import Catalogue
from popq.catalogue.models import Base


def migrate(connection) -> None:
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        render_as_batch=connection.dialect.name == "sqlite",
        compare_server_default=False,
    )
    with context.begin_transaction():
        context.run_migrations()


handed_over = context.config.attributes.get("connection")
if handed_over is not None:
    migrate(handed_over)
else:
    # `alembic revision --autogenerate` by a developer: POPQ_DATABASE_URL, or the demo's default.
    from popq.settings import load

    catalogue = Catalogue(load().catalogue_url())
    catalogue.create_folder()
    with catalogue.begin() as tx:
        migrate(tx)
    catalogue.close()
