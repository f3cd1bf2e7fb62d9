"""What ``dramatiq workers.actors`` imports. The one module of the house that does something at import:

Dramatiq's command line knows no other way to hand over a broker.
"""

from __future__ import annotations

from models import log
from models.config import load_settings
from models.db import Database
from models.gateways import gateway_for
from workers.broker import SafeRetries, configure
from workers.failures import Failures
from workers.heartbeat import WorkerHeartbeat
from workers.registry import declare_actors

settings = load_settings()
log.configure("worker", settings.log_level)
broker = configure(settings)
_database = Database(settings.database_url)
broker.add_middleware(Failures(_database), before=SafeRetries)
broker.add_middleware(WorkerHeartbeat(_database))
# Of the 8 threads that the Procfile gives: a silent provider must not keep media events and settlements waiting.
declare_actors(broker, _database, gateway_for(settings, _database, at_once=3))
