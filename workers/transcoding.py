"""What ``dramatiq workers.transcoding`` imports: the actors of the transcode queue, and their supervisors.

The second of the two modules that do something at import, for the same reason as ``workers.actors``.
An actor returns at once: it offers the broadcast, or the recording, to its supervisor, or refuses it when this
worker is full; the message then goes to another. One whose message is lost is found by the supervisors themselves.
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any

import dramatiq
from dramatiq.middleware import Middleware

from models import egress_tickets, log, spectator_addresses
from models.config import Settings, load_settings
from models.db import Database
from models.messages.routing import RECORDING_ACTOR, TRANSCODE_ACTOR, TRANSCODE_QUEUE
from workers.broker import SafeRetries, configure
from workers.failures import Failures
from workers.heartbeat import WorkerHeartbeat
from workers.loop import Loop
from workers.transcode.broadcasting import Broadcasting
from workers.transcode.players import PlayerLog
from workers.transcode.recording import Recording
from workers.transcode.supervisor import Supervisor

if TYPE_CHECKING:
    from workers.transcode.upload import Mirror


class Transcoding(Middleware):
    """The supervisor's thread, from the worker's boot to its shutdown."""

    def __init__(
        self, supervisor: Supervisor, player_log: PlayerLog | None = None, mirror: Mirror | None = None
    ) -> None:
        self._supervisor = supervisor
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="transcode-supervisor", daemon=True)
        self._player_log = player_log
        self._listener = threading.Thread(target=self._listen, name="transcode-players", daemon=True)
        self._mirror = mirror
        self._uploader = threading.Thread(target=self._upload, name="transcode-uploads", daemon=True)

    def after_worker_boot(self, broker: dramatiq.Broker, worker: Any) -> None:
        """Called by Dramatiq in the worker process, after its fork."""
        self._thread.start()
        self._listener.start()
        self._uploader.start()

    def before_worker_shutdown(self, broker: dramatiq.Broker, worker: Any) -> None:
        """Called by Dramatiq when the worker is told to stop."""
        self._stop.set()
        self._thread.join(timeout=10)
        self._listener.join(timeout=10)
        self._uploader.join(timeout=10)

    def _run(self) -> None:
        # Children are started and stopped in this thread alone: the kernel ends them with it.
        Loop("transcode", self._supervisor.step, self._stop).run()
        self._supervisor.end()

    def _listen(self) -> None:
        if self._player_log is not None:
            Loop("players", self._player_log.step, self._stop).run()
            self._player_log.close()

    def _upload(self) -> None:
        if self._mirror is not None:
            Loop("uploads", self._mirror.step, self._stop).run()
            self._mirror.close()


def declare_actors(broker: dramatiq.Broker, broadcasts: Supervisor, recordings: Supervisor) -> None:
    """Tell ``broker`` what to call."""

    @dramatiq.actor(broker=broker, actor_name=TRANSCODE_ACTOR, queue_name=TRANSCODE_QUEUE)
    def transcode_broadcast(broadcast_id: str) -> None:
        broadcasts.offer(broadcast_id)

    @dramatiq.actor(broker=broker, actor_name=RECORDING_ACTOR, queue_name=TRANSCODE_QUEUE)
    def record_session(recording_id: str) -> None:
        recordings.offer(recording_id)


def supervisor_for(settings: Settings, db: Database) -> Supervisor:
    """The supervisor of this process."""
    return Broadcasting(
        db,
        worker_id=settings.transcode_worker_id,
        root=settings.hls_dir,
        capacity=settings.transcode_rooms,
        preset=settings.transcode_preset,
        low_latency=settings.low_latency_hls,
        spectators_key=settings.key(spectator_addresses.KEY_PURPOSE),
        egress_key=settings.key(egress_tickets.KEY_PURPOSE),
    )


def recording_supervisor_for(settings: Settings, db: Database) -> Supervisor:
    """The supervisor of this process' recordings: as many as broadcasts, which end where a room goes private."""
    return Recording(
        db,
        worker_id=settings.transcode_worker_id,
        root=settings.recordings_dir,
        capacity=settings.transcode_rooms,
        preset=settings.transcode_preset,
        free_bytes=settings.recordings_free_mb * 1_000_000,
        egress_key=settings.key(egress_tickets.KEY_PURPOSE),
    )


def mirror_for(settings: Settings, db: Database) -> Mirror | None:
    """What puts this worker's broadcasts into object storage, where there is one."""
    if not settings.s3_bucket:
        return None
    # Half a worker's start, which every viewer of a killed one waits for; most have no storage.
    from workers.transcode.objects import Bucket
    from workers.transcode.upload import CONNECTIONS, Mirror

    return Mirror(
        db,
        Bucket(settings, CONNECTIONS),
        root=settings.hls_dir,
        worker_id=settings.transcode_worker_id,
        # A CDN in front has rights of its own in the bucket, or asks us and keeps what we answer.
        hand_out_addresses=not settings.cdn_base_url,
    )


def _boot() -> None:
    settings = load_settings()
    log.configure("transcode", settings.log_level)
    broker = configure(settings)
    database = Database(settings.database_url)
    supervisor, recordings = supervisor_for(settings, database), recording_supervisor_for(settings, database)
    broker.add_middleware(Failures(database), before=SafeRetries)
    broker.add_middleware(WorkerHeartbeat(database))
    listens_at = settings.players_socket
    player_log = PlayerLog(database, listens_at) if listens_at is not None else None
    broker.add_middleware(Transcoding(supervisor, player_log, mirror_for(settings, database)))
    broker.add_middleware(Transcoding(recordings))
    declare_actors(broker, supervisor, recordings)
    log.event("transcode_worker", rooms=settings.transcode_rooms, pid=os.getpid())


_boot()
