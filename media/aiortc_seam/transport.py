"""What packets go through once a connection stands: libsrtp by cffi, a socket, an address.

Knows no SDP, no ICE and no signaling.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

from aioice.ice import CandidatePair
from aiortc import RTCPeerConnection
from aiortc.rtcdtlstransport import RTCDtlsTransport
from pylibsrtp._binding import ffi, lib


class _Srtp:
    """libsrtp's in-place calls, ``(context, buffer, length pointer) -> 0 or an error``."""

    def __init__(self) -> None:
        library: Any = lib
        self.protect: Callable[[Any, Any, Any], int] = library.srtp_protect
        self.unprotect: Callable[[Any, Any, Any], int] = library.srtp_unprotect
        self.protect_rtcp: Callable[[Any, Any, Any], int] = library.srtp_protect_rtcp
        self.unprotect_rtcp: Callable[[Any, Any, Any], int] = library.srtp_unprotect_rtcp


srtp = _Srtp()


def workspace(size: int) -> tuple[Any, memoryview]:
    """A buffer for libsrtp and the same memory as a writable view."""
    buffer = ffi.new("char[]", size)
    return buffer, memoryview(ffi.buffer(buffer))


def lengths() -> Any:
    """The ``int *`` that libsrtp reads and writes lengths through."""
    return ffi.new("int *")


class Path:
    """A connected transport: SRTP contexts both ways, the socket, and the address that was nominated."""

    def __init__(self, dtls: RTCDtlsTransport, pair: CandidatePair) -> None:
        # The sessions own the contexts: keep them as long as the raw pointers are in use.
        self._sessions: tuple[Any, Any] = (dtls._tx_srtp, dtls._rx_srtp)
        self.protect_context: Any = dtls._tx_srtp._srtp[0]
        self.unprotect_context: Any = dtls._rx_srtp._srtp[0]
        self.address: tuple[str, int] = pair.remote_addr
        # uvloop's socket object cannot send; a duplicate descriptor can.
        number = pair.protocol.transport.get_extra_info("socket").fileno()
        self._socket = socket.socket(fileno=socket.dup(number))
        self._socket.setblocking(False)
        self.sendto: Callable[[memoryview, tuple[str, int]], int] = self._socket.sendto
        self.receive_into: Callable[[memoryview], int] = self._socket.recv_into

    def close(self) -> None:
        """Close the duplicate and let the contexts go."""
        self._socket.close()
        self._sessions = (None, None)
        self.protect_context = self.unprotect_context = None


def path_of(client: RTCPeerConnection) -> Path:
    """The transport of a connected stock client: for load generators, which take it over."""
    dtls = client.getTransceivers()[0].receiver.transport
    return Path(dtls, dtls.transport._connection._nominated[1])
