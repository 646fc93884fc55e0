"""The Celery app: queues io and gpu, and settings that make a lost or doubled message harmless.

A message is a doorbell: it says "there is work for job 7", never which photos. So it is
acknowledged on receipt (losing it is harmless, redelivering hours of training is not), it expires,
it has no result, and its delivery is nobody's transaction.
"""

from __future__ import annotations

import threading
from typing import Any, Final

from celery import Celery
from kombu.exceptions import OperationalError

from popq import settings
from popq.errors import ServiceDown

#: Seconds after which a bell that nobody answered is void.
BELL_EXPIRES_S: Final = 30
# A broker that is away must not hang the command that rings: the sweep finds the work anyway.
_TRANSPORT: Final[dict[str, dict[str, Any]]] = {
    "redis": {"socket_connect_timeout": 2, "socket_timeout": 10},
    "amqp": {"connect_timeout": 2, "read_timeout": 10, "write_timeout": 10},
}


def _transport(url: str | None) -> dict[str, Any]:
    return next((_TRANSPORT[kind] for kind in _TRANSPORT if (url or "").startswith(kind)), {})


_broker = settings.load().broker()
app = Celery("popq", broker=_broker, include=["popq.tasks"])
app.conf.update(
    result_backend=None,
    task_ignore_result=True,
    task_serializer="json",
    accept_content=["json"],
    task_acks_late=False,
    task_reject_on_worker_lost=False,
    task_routes={
        "popq.resolve": {"queue": "io"},
        "popq.download": {"queue": "io"},
        "popq.score": {"queue": "gpu"},
        "popq.train": {"queue": "gpu"},
    },
    task_default_queue="io",
    # Bells carry no work, so there is nothing to hoard.
    worker_prefetch_multiplier=1,
    worker_max_tasks_per_child=500,
    # A spawned child begins with its imports. Celery would kill it after 4 s, and the next, and so
    # on for ever on a busy machine.
    worker_proc_alive_timeout=120,
    # Flower shows jobs and workers from these.
    worker_send_task_events=True,
    task_send_sent_event=False,
    worker_hijack_root_logger=False,
    worker_redirect_stdouts=False,
    # What is under way when the broker goes is in the catalogue: it goes on.
    worker_cancel_long_running_tasks_on_connection_loss=False,
    broker_connection_retry_on_startup=True,
    broker_connection_max_retries=None,
    broker_transport_options=_transport(_broker),
)


def check_broker(*, retries: int = 1) -> str:
    """Return the broker's URL without its password; `ServiceDown` when it does not answer.

    A broker that does not answer is asked `retries` more times, two seconds later each.
    """
    with app.connection_for_write() as connection:
        try:
            connection.ensure_connection(max_retries=retries, timeout=5)
        except _silence(connection) as error:
            message = f"The broker {connection.as_uri()} does not answer: {error}"
            raise ServiceDown(f"{message}. Start it, or unset POPQ_BROKER_URL.") from error
        return str(connection.as_uri())


def _silence(connection: Any) -> tuple[type[Exception], ...]:
    """Return the errors that say that the broker does not answer.

    kombu does not wrap those of a RabbitMQ that refuses the login or the virtual host.
    """
    refused = (*connection.connection_errors, *connection.channel_errors)
    return (OperationalError, OSError, *refused)


def broker_silence(within_s: float) -> str | None:
    """Return why the broker does not answer within so many seconds; None if it does."""
    # Said unless the broker speaks in time: a look-up of its name, or a host that swallows packets,
    # may take far longer.
    said: list[str | None] = [f"no answer within {within_s:g} s"]

    def ask() -> None:
        try:
            check_broker(retries=0)
        except ServiceDown as error:
            said.append(str(error.__cause__))
        except Exception as error:  # noqa: BLE001 - whatever it is, no bell can ring
            said.append(type(error).__name__)  # its words may quote the password
        else:
            said.append(None)

    asker = threading.Thread(target=ask, name="broker", daemon=True)
    asker.start()
    asker.join(within_s)
    return said[-1]
