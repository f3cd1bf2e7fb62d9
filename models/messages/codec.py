"""JSON in and out at the edge of a process. What cannot be read is refused loudly, never dropped.

An unknown type or version raises UnknownMessage; its reader lets the message fail to the dead letters.
"""

from __future__ import annotations

import msgspec

from models.messages import commands, events


class UnknownMessage(Exception):
    """Not a message that this release understands."""


_commands: msgspec.json.Decoder[commands.AnyCommand] = msgspec.json.Decoder(commands.AnyCommand)
_events: msgspec.json.Decoder[events.AnyEvent] = msgspec.json.Decoder(events.AnyEvent)

encode = msgspec.json.encode


def decode_command(body: bytes | str) -> commands.AnyCommand:
    """The command in ``body``; raises UnknownMessage."""
    try:
        command = _commands.decode(body)
    except msgspec.DecodeError as error:
        raise UnknownMessage(str(error)) from error
    if command.version != commands.VERSION:
        raise UnknownMessage(f"command version {command.version}")
    return command


def decode_event(body: bytes | str) -> events.AnyEvent:
    """The event in ``body``; raises UnknownMessage."""
    try:
        event = _events.decode(body)
    except msgspec.DecodeError as error:
        raise UnknownMessage(str(error)) from error
    if event.version != events.VERSION:
        raise UnknownMessage(f"event version {event.version}")
    return event
