"""What packets go through once a connection stands: libsrtp by cffi, the port's socket, an address.

Knows no SDP, no ICE and no signaling.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

from aiortc import RTCPeerConnection
from aiortc.rtcdtlstransport import RTCDtlsTransport
from pylibsrtp._binding import ffi, lib

from media.port import Address, Gate


class _Srtp:
    """libsrtp's in-place calls, ``(context, buffer, length pointer) -> 0 or an error``."""

    def __init__(self) -> None:
        library: Any = lib
        self.protect: Callable[[Any, Any, Any], int] = library.srtp_protect
        self.unprotect: Callable[[Any, Any, Any], int] = library.srtp_unprotect
        self.protect_rtcp: Callable[[Any, Any, Any], int] = library.srtp_protect_rtcp
        self.unprotect_rtcp: Callable[[Any, Any, Any], int] = library.srtp_unprotect_rtcp


srtp = _Srtp()


def address_in_memory(function: str) -> int:
    """Where libsrtp's function of this name (``srtp_protect``) is, for code that is not Python."""
    return int(ffi.cast("uintptr_t", ffi.addressof(lib, function)))


def context_in_memory(context: Any) -> int:
    """The same of a context of :class:`Path`."""
    return int(ffi.cast("uintptr_t", context))


def workspace(size: int) -> tuple[Any, memoryview]:
    """A buffer for libsrtp and the same memory as a writable view."""
    buffer = ffi.new("char[]", size)
    return buffer, memoryview(ffi.buffer(buffer))


def lengths() -> Any:
    """The ``int *`` that libsrtp reads and writes lengths through."""
    return ffi.new("int *")


class Path:
    """A connected transport: SRTP contexts both ways, a socket, and the address to send to."""

    def __init__(
        self, dtls: RTCDtlsTransport, handle: socket.socket, address: Address, *, owned: bool,
        gate: Gate | None = None, client: object = None,
    ) -> None:  # fmt: skip
        """``owned``: ``close`` closes the socket too. ``gate``: whose socket it is; ``client``: whom its routes
        know this connection as."""
        self.gate = gate
        self.client = client
        # The sessions own the contexts: keep them as long as the raw pointers are in use.
        self._sessions: tuple[Any, Any] = (dtls._tx_srtp, dtls._rx_srtp)
        self.protect_context: Any = dtls._tx_srtp._srtp[0]
        self.unprotect_context: Any = dtls._rx_srtp._srtp[0]
        self.address = address
        self.socket = handle
        self._owned = handle if owned else None
        self.sendto: Callable[[memoryview, Address], int] = handle.sendto

    def close(self) -> None:
        """Let the contexts go, and the socket if it is nobody else's."""
        if self._owned is not None:
            self._owned.close()
        self._sessions = (None, None)
        self.protect_context = self.unprotect_context = None


def path_of(client: RTCPeerConnection) -> Path:
    """The transport of a connected stock client: for load generators, which take it over."""
    dtls = client.getTransceivers()[0].receiver.transport
    pair = dtls.transport._connection._nominated[1]
    # uvloop's socket object cannot send; a duplicate descriptor can.
    handle = socket.socket(fileno=socket.dup(pair.protocol.transport.get_extra_info("socket").fileno()))
    handle.setblocking(False)
    return Path(dtls, handle, pair.remote_addr, owned=True)
