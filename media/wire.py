"""A connected transport, and fan-out: header rewritten, numbered, sealed, sent, for one slot after the other.

The Python path, of a node without the native engine. Nothing is queued: what the socket does not take at once is
lost, as on any network. SRTP works in place on one buffer through cffi.
"""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct
from typing import Any

from media import rtp
from media.aiortc_seam import Path, lengths, srtp, workspace
from media.codecs import vp8_shift
from media.layers import Kept, Layer
from media.send_history import OVERHEAD, History
from media.tracks import PublishedTrack, Slot

LARGEST_PACKET = 1500
MOST_PADDING = 255
"""Bytes: the count is one of them."""
_pack_header = rtp.RTP_HEADER.pack_into
_pack_number = Struct("!H").pack_into
_EXTENSION = Struct("!HHBHB")
_buffer, _view = workspace(2048)
_length = lengths()


class Wire:
    """One connected transport: a socket, the address that checked in, and two SRTP contexts."""

    __slots__ = (
        "_path", "_refused", "address", "history", "protect_context", "sendto", "unprotect_context",
    )  # fmt: skip

    def __init__(self, path: Path, history: History | None = None) -> None:
        """``history``: of a connection whose packets may carry transport-wide numbers; at another address the same
        goes on."""
        self._path: Path | None = path
        self.history = history
        self.protect_context: Any = path.protect_context
        self.unprotect_context: Any = path.unprotect_context
        self.sendto = path.sendto
        self.address = path.address
        self._refused = 0

    @property
    def refused(self) -> int:
        """Packets that the socket did not take, also after ``close``. What ``fan_out`` could not send is with the
        publisher (``Ingress.refused``)."""
        return self._refused

    def open_rtp(self, data: bytes) -> bytes | None:
        """The RTP packet inside, or None if it does not authenticate or came before."""
        return self._open(srtp.unprotect, data)

    def open_rtcp(self, data: bytes) -> bytes | None:
        """The compound inside, or None."""
        return self._open(srtp.unprotect_rtcp, data)

    def _open(self, unprotect: Callable[[Any, Any, Any], int], data: bytes) -> bytes | None:
        size = len(data)
        if self._path is None or size > LARGEST_PACKET:
            return None
        _view[:size] = data
        _length[0] = size
        if unprotect(self.unprotect_context, _buffer, _length):
            return None
        return bytes(_view[: _length[0]])

    def send_rtcp(self, compound: bytes) -> None:
        """Protect and send a compound; lost if the socket is full."""
        size = len(compound)
        if self._path is None or size > LARGEST_PACKET - 100:
            return
        _view[:size] = compound
        _length[0] = size
        if srtp.protect_rtcp(self.protect_context, _buffer, _length):
            return
        self._send(_view[: _length[0]])

    def send_rtp(self, slot: Slot, kept: Kept, payload_type: int) -> None:
        """Send one packet as ``slot``'s subscriber knows it; the same bytes each time it is called, unless it
        carries a transport-wide number: then it may be called once (``Slot.extension``)."""
        if self._path is None:
            return
        numbers = (
            kept.marker | payload_type, (kept.sequence + slot.sequence_offset) & 0xFFFF,
            (kept.timestamp + slot.timestamp_offset) & 0xFFFFFFFF, slot.ssrc,
        )  # fmt: skip
        start = _head(numbers, slot.extension(), self.history, kept.size)
        end = start + len(kept.payload)
        _view[start:end] = kept.payload
        if slot.shift is not None:
            vp8_shift(_view, start, slot.shift)
        self._seal_and_send(end)

    def send_repair(self, slot: Slot, kept: Kept, payload_type: int) -> None:
        """Send one packet again under the slot's repair SSRC (RFC 4588 section 4), with a number of its own."""
        if self._path is None:
            return
        start = self._repair_head(slot, kept.marker | payload_type, kept.timestamp, kept.size + 2)
        end = start + 2 + len(kept.payload)
        _pack_number(_view, start, (kept.sequence + slot.sequence_offset) & 0xFFFF)
        _view[start + 2 : end] = kept.payload
        if slot.shift is not None:
            vp8_shift(_view, start + 2, slot.shift)
        self._seal_and_send(end)

    def send_padding(self, slot: Slot, payload_type: int) -> None:
        """Send as much of nothing under the slot's repair SSRC as a packet may hold (RFC 3550 section 5.1)."""
        if self._path is None:
            return
        start = self._repair_head(slot, payload_type, slot.last_timestamp or 0, 12 + MOST_PADDING)
        end = start + MOST_PADDING
        _view[0] |= 0x20
        _view[start:end] = bytes(MOST_PADDING - 1) + bytes((MOST_PADDING,))
        self._seal_and_send(end)

    def _repair_head(self, slot: Slot, kind: int, timestamp: int, size: int) -> int:
        slot.repairs += 1
        later = (timestamp + slot.timestamp_offset) & 0xFFFFFFFF
        return _head(
            (kind, slot.repairs & 0xFFFF, later, slot.repair_ssrc), slot.extension(), self.history, size
        )

    def _seal_and_send(self, size: int) -> None:
        _length[0] = size
        if not srtp.protect(self.protect_context, _buffer, _length):
            self._send(_view[: _length[0]])

    def take(self, slot: Slot) -> None:
        """That slot is sent by this wire from now on."""

    def aim(self, slot: Slot) -> None:
        """What it is to carry may have changed; packets ask the slot."""

    def halt(self, slot: Slot) -> None:
        """It is to carry nothing until it is aimed anew; packets ask the slot."""

    def moved(self, path: Path) -> Wire:
        """The same association at another address; this wire is still to be closed, unless it goes on."""
        return Wire(path, self.history)

    def _send(self, data: memoryview) -> None:
        try:
            self.sendto(data, self.address)
        except OSError:
            self._refused += 1

    def close(self) -> None:
        """Forget the contexts and close the socket; nothing is sent any more."""
        if self._path is not None:
            self._path.close()
            self._path = None
            self.protect_context = self.unprotect_context = None


def _head(numbers: tuple[int, int, int, int], extension: int, history: History | None, size: int) -> int:
    """Write the header of a packet of ``size`` bytes, numbered if it is to be; where its payload begins."""
    if not extension or history is None:
        _pack_header(_view, 0, 0x80, *numbers)
        return 12
    _pack_header(_view, 0, 0x90, *numbers)
    # The one-byte form, one element of two bytes and a byte of padding (RFC 8285 section 4.2).
    number = history.stamp(size + _EXTENSION.size + OVERHEAD)
    _EXTENSION.pack_into(_view, 12, 0xBEDE, 1, extension << 4 | 1, number, 0)
    return 12 + _EXTENSION.size


def fan_out(layer: Layer, kept: Kept) -> int:
    """Send a fresh packet to every slot that carries the layer; returns how many the sockets refused."""
    sequence, timestamp, marker, size, payload = (
        kept.sequence, kept.timestamp, kept.marker, kept.size, kept.payload,
    )  # fmt: skip
    octets = len(payload)
    view, buffer, length, protect = _view, _buffer, _length, srtp.protect
    refused = 0
    for payload_type, by, later, ssrc, context, send, address, shift, extension, history in layer.lanes:
        numbers = (
            marker | payload_type, (sequence + by) & 0xFFFF, (timestamp + later) & 0xFFFFFFFF, ssrc,
        )  # fmt: skip
        start = _head(numbers, extension, history, size)
        view[start : start + octets] = payload
        if shift is not None:
            vp8_shift(view, start, shift)
        length[0] = start + octets
        if protect(context, buffer, length):
            refused += 1
            continue
        try:
            send(view[: length[0]], address)
        except OSError:
            refused += 1
    return refused


def late(track: PublishedTrack, layer: Layer, kept: Kept) -> None:
    """Send a packet that came out of order to the slots that carried its layer when it was due."""
    for slot in tuple(track.slots):
        if not slot.live or slot.layer is not layer or slot.wire is None or kept.sequence < slot.first:
            continue
        payload_type = slot.payload_type()
        if payload_type is not None:
            slot.wire.send_rtp(slot, kept, payload_type)
