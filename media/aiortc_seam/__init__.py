"""The one package that touches what aiortc, aioice and pylibsrtp keep to themselves.

aiortc keeps SDP, ICE and DTLS. Media is taken out of it: datagrams that may be SRTP leave the socket's
protocol before anything of aiortc sees them, and its senders and receivers only hold a place in the SDP.

``ice`` only answers, ``connection`` holds places, ``transport`` is what packets go through, ``leg`` is one peer
connection as the plane uses it. ``tests/unit/media/test_aiortc_seam.py`` fails when an upgrade moves anything
that is used here.
"""

from __future__ import annotations

from media.aiortc_seam.connection import SRTP_PROFILES as SRTP_PROFILES
from media.aiortc_seam.leg import TRANSPORT_CC_URI as TRANSPORT_CC_URI
from media.aiortc_seam.leg import Encoding as Encoding
from media.aiortc_seam.leg import Leg as Leg
from media.aiortc_seam.leg import Line as Line
from media.aiortc_seam.leg import Received as Received
from media.aiortc_seam.leg import State as State
from media.aiortc_seam.transport import Path as Path
from media.aiortc_seam.transport import address_in_memory as address_in_memory
from media.aiortc_seam.transport import context_in_memory as context_in_memory
from media.aiortc_seam.transport import lengths as lengths
from media.aiortc_seam.transport import path_of as path_of
from media.aiortc_seam.transport import srtp as srtp
from media.aiortc_seam.transport import workspace as workspace

VERSIONS = {"aiortc": "1.16.0", "aioice": "0.13.0", "pylibsrtp": "1.0.0"}
