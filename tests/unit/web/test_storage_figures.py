"""What operators see of the object storage."""

from __future__ import annotations

from pathlib import Path

import msgspec
from prometheus_client import CollectorRegistry, generate_latest

from models.live_files import STORED, Condition, condition_name
from web.metrics import Metrics, StorageFigures


def told(root: Path) -> str:
    registry = CollectorRegistry()
    registry.register(StorageFigures(root))
    return generate_latest(registry).decode()


def test_each_worker_says_how_it_finds_the_storage(tmp_path: Path) -> None:
    # without one there is nothing to say
    assert told(tmp_path) == ""
    for worker, up in (("host 1", True), ("host/2", False)):
        path = tmp_path / STORED / condition_name(worker)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(msgspec.json.encode(Condition(worker=worker, up=up, failures=3, objects=7)))
    (tmp_path / STORED / "worker-half.json").write_text("{")
    text = told(tmp_path)
    assert 'greenroom_storage_up{worker="host 1"} 1.0' in text
    assert 'greenroom_storage_up{worker="host/2"} 0.0' in text
    assert 'greenroom_storage_failures{worker="host 1"} 3.0' in text
    assert b"greenroom_storage_up" in generate_latest(Metrics(hls_dir=tmp_path).registry)
