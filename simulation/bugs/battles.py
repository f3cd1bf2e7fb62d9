"""Bugs in battles: what goes into the pot, what comes back of it, and how it is shared out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from models import pots, splitting
from models.postings import account_id, post
from models.services import battle_clock, battle_money, battles, disputes
from simulation.planting import Patches, Without, bug


def _keep(patches: Patches, name: str, kept: Callable[..., bool]) -> None:
    """Where ``kept`` says so, nothing is given back."""

    def make(real: Any) -> Any:
        give = getattr(real, name)

        def gives(tx: Any, battle: Any, *about: Any, **more: Any) -> Any:
            return 0 if kept(battle, *about, **more) else give(tx, battle, *about, **more)

        return Without(real, name, gives)

    patches.replace(battles, "battle_money", make)


@bug("A pot is shared out once more, out of the house's fees.")
def pot_paid_twice(patches: Patches) -> None:
    def make(share_out: Any) -> Any:
        def twice(tx: Any, pot: str, shares: Any, *, cause_id: str, now: Any, **more: Any) -> Any:
            paid = share_out(tx, pot, shares, cause_id=cause_id, now=now, **more)
            for creator_id, part in paid.items():
                entries = {account_id("fees"): -part.earnings, account_id("earnings", creator_id): part.earnings}
                key = f"again:{pot}:{creator_id}"
                post(tx, "share", entries, key=key, reference=key, cause_id=cause_id, now=now)
            return paid

        return twice

    patches.replace(pots, "share_out", make)


@bug("In a draw the one who entered first has won.")
def draw_goes_to_the_first(patches: Patches) -> None:
    patches.replace(splitting, "winners", lambda winners: lambda scores: winners(scores)[:1])


@bug("The winner takes all, whatever was promised.")
def winner_takes_all(patches: Patches) -> None:
    def make(split: Any) -> Any:
        return lambda pot, scores, percent: split(pot, scores, None if percent is None else 100)

    patches.replace(splitting, "split", make)


@bug("Of a pot no commission is taken.")
def pot_without_commission(patches: Patches) -> None:
    patches.replace(pots, "commission_of", lambda _commission: lambda _share, _percent: 0)


@bug("Who never came loses the entry fee, also when the host began before the time that was told.")
def fee_of_a_no_show_kept(patches: Patches) -> None:
    _keep(patches, "return_fee", lambda _battle, side, _now: side.status == "gone")


@bug("Who leaves before it begins does not get the entry fee back.")
def fee_of_who_left_kept(patches: Patches) -> None:
    _keep(patches, "return_fee", lambda _battle, side, _now: side.status == "left")


@bug("Tips for a side that never came stay in the pot.")
def tips_of_a_no_show_kept(patches: Patches) -> None:
    _keep(patches, "return_tips", lambda battle, _now, side=None, **_more: side and battle.status == "running")


@bug("A pot that nobody has won is shared out all the same.")
def nobody_won_and_shared(patches: Patches) -> None:
    def make(scores: Any) -> Any:
        return lambda tx, battle_id: scores(tx, battle_id) or {"": 0}

    patches.replace(battle_money, "scores", make)


@bug("A tip for a side that is sent again, since its answer was lost, is given again.")
def side_tip_given_again(patches: Patches) -> None:
    def make(tip: Any) -> Any:
        def anew(tx: Any, *args: Any, key: str, now: Any, **more: Any) -> Any:
            return tip(tx, *args, key=f"{key}-{now}", now=now, **more) and tip(
                tx, *args, key=f"{key}-{now}-2", now=now, **more
            )

        return anew

    patches.replace(battles, "tip", make)


@bug("Who has been away for a minute still shares.")
def absent_side_shares(patches: Patches) -> None:
    patches.replace(battle_clock, "drop_absent", lambda _drop: lambda _tx, _now: 0)


@bug("A payment that turns out bad leaves what its buyer has at stake in the pot.")
def bad_stake_stays(patches: Patches) -> None:
    patches.replace(disputes, "battle_clock", lambda real: Without(real, "spending_frozen"))


@bug("A battle that is called off keeps the entry fees, and pays them to its host.")
def called_off_pays_the_host(patches: Patches) -> None:
    def make(call_off: Any) -> Any:
        def pays(tx: Any, battle: Any, reason: Any, now: Any) -> None:
            tokens = battle_money.in_pot(tx, battle.id)
            if tokens:
                battle_money.share_out(tx, battle, {battle.host_id: tokens}, now)
            for side in battle_money.sides_of(tx, battle.id):
                side.fee = 0
            tx.flush()
            call_off(tx, battle, reason, now)

        return pays

    patches.replace(battles, "call_off", make)
