"""The meter against docs/money.md's words: what counts, what pauses, what ends it, and what never may happen."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from media.budget import Ending, SessionMeter
from models.messages.commands import Budget
from models.messages.events import EndFact
from models.timing import timers_for

TICK = 50
FRAME = 40


def budget(
    paid_ms: int = 300_000,
    *,
    minute_ms: int = 60_000,
    delivered_ms: int = 0,
    creator_pause_ms: int = 0,
    node_pause_ms: int = 0,
    resumed: bool = False,
    paused_for_ms: int = 0,
) -> Budget:
    return Budget(
        session_id="ses_1",
        paid_ms=paid_ms,
        rate_per_minute=100,
        timers=timers_for(minute_ms),
        delivered_ms=delivered_ms,
        creator_pause_ms=creator_pause_ms,
        node_pause_ms=node_pause_ms,
        resumed=resumed,
        paused_for_ms=paused_for_ms,
    )


class Stage:
    """Plays time to a meter: ticks every 50 ms, and frames at the distance that is set (None: no frames)."""

    def __init__(self, given: Budget | None = None, *, audio_only: bool = False) -> None:
        self.now = 1_000
        self.meter = SessionMeter(given or budget(), self.now, audio_only=audio_only)
        self.frames_every: int | None = None
        self.keys = True
        self._next_frame = 0

    def play(self, duration_ms: int) -> Stage:
        end = self.now + duration_ms
        next_tick = self.now + TICK
        self._next_frame = max(self._next_frame, self.now)
        while True:
            frame = self._next_frame if self.frames_every else end + 1
            moment = min(frame, next_tick, end)
            self.now = moment
            if moment == frame:
                self.meter.video_frame(moment, key=self.keys)
                self._next_frame += self.frames_every or 0
            if moment == next_tick:
                self.meter.tick(moment)
                if self.meter.behind:
                    self.meter.caught_up(moment)
                next_tick += TICK
            if moment == end:
                return self

    def live(self) -> Stage:
        """Both connected, first key frame now, 25 frames a second."""
        self.meter.creator_seated(self.now, here=True)
        self.meter.fan_connected(self.now)
        self.frames_every = FRAME
        return self.play(1)

    def stop(self, duration_ms: int) -> Stage:
        """The process stands still; the next thing it sees is what queued up."""
        self.now += duration_ms
        self._next_frame = self.now
        return self

    @property
    def delivered(self) -> int:
        return self.meter.figures.delivered_ms

    @property
    def ending(self) -> Ending:
        assert self.meter.ending is not None
        return self.meter.ending

    @property
    def fact(self) -> EndFact | None:
        return self.meter.ending.fact if self.meter.ending else None


# --- connecting -------------------------------------------------------------------------------------


def test_the_clock_waits_for_both_and_starts_at_a_key_frame() -> None:
    stage = Stage()
    stage.frames_every = FRAME
    stage.play(5_000)
    assert stage.meter.figures.state == "waiting"
    assert not stage.meter.may_forward(stage.now)
    stage.keys = False
    stage.meter.fan_connected(stage.now)
    stage.play(400)
    assert stage.meter.figures.state == "waiting"
    assert stage.meter.wants_key_frame(stage.now)
    stage.keys = True
    stage.play(FRAME)
    assert stage.meter.figures.state == "running"
    assert stage.meter.may_forward(stage.now)
    stage.play(10_000)
    assert 9_900 <= stage.delivered <= 10_040


def test_both_connected_without_a_key_frame_is_the_creators_pause() -> None:
    stage = Stage()
    stage.frames_every = FRAME
    stage.play(100)
    stage.keys = False
    stage.meter.fan_connected(stage.now)
    stage.play(2_100)
    assert (stage.meter.figures.state, stage.meter.figures.cause) == ("paused", "creator")


@pytest.mark.parametrize(
    ("creator", "fan", "fact"),
    [
        (False, False, "creator_never_connected"),
        (False, True, "creator_never_connected"),
        (True, False, "fan_never_connected"),
    ],
)
def test_who_never_connected(creator: bool, fan: bool, fact: EndFact) -> None:
    stage = Stage()
    if creator:
        stage.meter.creator_seated(stage.now, here=True)
        stage.frames_every = FRAME
    if fan:
        stage.meter.fan_connected(stage.now)
    stage.play(29_900)
    assert stage.meter.ending is None
    stage.play(200)
    assert stage.fact == fact
    assert stage.delivered == 0


def test_a_late_creator_leaves_the_fan_time_to_connect() -> None:
    stage = Stage().play(29_900)
    stage.meter.creator_seated(stage.now, here=True)
    stage.frames_every = FRAME
    stage.play(9_900)
    assert stage.meter.ending is None
    stage.play(200)
    assert stage.fact == "fan_never_connected"


def test_a_creator_who_came_and_went_is_the_one_who_was_missing() -> None:
    stage = Stage()
    stage.meter.creator_seated(stage.now, here=True)
    stage.frames_every = FRAME
    stage.play(1_000)
    stage.frames_every = None
    stage.meter.creator_seated(stage.now, here=False)
    stage.play(30_000)
    assert stage.fact == "creator_left"


@pytest.mark.parametrize(
    ("creator_comes", "connected", "fact"),
    [
        (False, True, "creator_never_connected"),
        (True, True, "fan_left"),
        (True, False, "fan_never_connected"),
    ],
)
def test_a_fan_who_gives_up_first_does_not_excuse_the_creator(
    creator_comes: bool, connected: bool, fact: EndFact
) -> None:
    stage = Stage()
    if connected:
        stage.meter.fan_connected(stage.now)
    stage.play(5_000)
    stage.meter.fan_left(stage.now)
    assert stage.meter.ending is None
    if creator_comes:
        stage.frames_every = FRAME
    stage.play(25_100)
    assert stage.fact == fact


# --- the meter --------------------------------------------------------------------------------------


def test_a_gap_of_two_seconds_counts() -> None:
    stage = Stage().live().play(10_000)
    stage.frames_every = None
    stage.play(1_900)
    stage.frames_every = FRAME
    stage.play(8_100)
    assert stage.meter.figures.state == "running"
    assert stage.delivered >= 19_900


def test_a_longer_gap_counts_nothing_from_its_first_ms() -> None:
    stage = Stage().live().play(10_000)
    last_frame = stage.delivered
    stage.frames_every = None
    stage.play(2_100)
    assert stage.meter.figures.state == "paused"
    assert stage.delivered == last_frame
    assert stage.meter.figures.creator_pause_ms >= 2_050
    stage.play(5_000)
    assert stage.delivered == last_frame
    stage.frames_every = FRAME
    stage.play(300)
    assert stage.meter.figures.state == "running"
    assert stage.delivered <= last_frame + 300


def test_a_gap_ends_with_the_first_of_the_frames_that_prove_it() -> None:
    """1.9 s of nothing and then 6 frames a second: known 0.7 s later, counted from the first ms."""
    stage = Stage().live().play(10_000)
    stage.frames_every = None
    stage.play(1_900)
    stage.frames_every = 166
    stage.play(2_000)
    assert stage.meter.figures.state == "running"
    assert stage.delivered >= 13_600


@pytest.mark.parametrize(("every_ms", "state"), [(190, "running"), (250, "paused"), (1_900, "paused")])
def test_fewer_than_five_frames_a_second_is_a_gap(every_ms: int, state: str) -> None:
    stage = Stage().live().play(10_000)
    stage.frames_every = every_ms
    stage.play(6_000)
    assert stage.meter.figures.state == state
    if state == "paused":
        assert stage.delivered <= 10_000 + 5 * every_ms


def test_audio_only_needs_no_picture_and_a_silent_line_is_a_gap() -> None:
    stage = Stage(audio_only=True)
    stage.meter.fan_connected(stage.now)
    for _ in range(100):
        stage.now += 20
        stage.meter.audio_packet(stage.now)
    assert stage.meter.figures.state == "running"
    assert stage.delivered == 99 * 20
    stage.play(2_100)
    assert stage.meter.figures.state == "paused"


def test_sound_without_picture_is_a_gap_unless_agreed() -> None:
    stage = Stage().live().play(5_000)
    stage.frames_every = None
    for _ in range(60):
        stage.play(50)
        stage.meter.audio_packet(stage.now)
    assert stage.meter.figures.state == "paused"


def test_camera_declared_off_up_to_ten_seconds_counts_once_it_is_back() -> None:
    stage = Stage().live().play(5_000)
    stage.meter.declare_camera(stage.now, off=True)
    before = stage.delivered
    stage.play(9_000)
    assert stage.delivered == before
    stage.meter.declare_camera(stage.now, off=False)
    stage.play(1_000)
    assert stage.delivered >= 14_900


def test_camera_declared_off_for_longer_counts_nothing_from_the_declaration() -> None:
    stage = Stage().live().play(5_000)
    stage.meter.declare_camera(stage.now, off=True)
    before = stage.delivered
    stage.play(15_000)
    assert (stage.meter.figures.state, stage.meter.figures.cause) == ("paused", "creator")
    assert stage.delivered == before
    assert stage.meter.figures.creator_pause_ms >= 14_900
    stage.meter.declare_camera(stage.now, off=False)
    stage.play(500)
    assert stage.meter.figures.state == "running"


def test_nothing_that_the_fan_lacks_stops_the_clock() -> None:
    stage = Stage().live().play(1_000)
    stage.meter.fan_gone(stage.now)
    stage.play(30_000)
    stage.meter.fan_back(stage.now)
    stage.play(40_000)
    assert stage.meter.ending is None
    assert stage.delivered >= 70_900


# --- pauses and ends --------------------------------------------------------------------------------


def test_pauses_of_one_side_end_it_at_their_sum() -> None:
    stage = Stage().live().play(10_000)
    for _ in range(2):
        stage.frames_every = None
        stage.play(50_000)
        stage.frames_every = FRAME
        stage.play(1_000)
    stage.frames_every = None
    stage.play(25_000)
    assert stage.fact == "creator_pause_used_up"
    assert 119_900 <= stage.meter.figures.creator_pause_ms <= 120_200
    assert stage.ending.pause_cause == "creator"


def test_the_larger_share_names_the_end_and_a_tie_is_ours() -> None:
    def end_with(creator_ms: int, node_ms: int) -> EndFact | None:
        given = budget(delivered_ms=1, creator_pause_ms=creator_ms, node_pause_ms=node_ms, resumed=True)
        return Stage(given).play(40_000).fact

    assert end_with(79_000, 1_000) == "creator_pause_used_up"
    assert end_with(1_000, 89_000) == "node_pause_used_up"
    assert end_with(60_000, 60_000 - TICK) == "node_pause_used_up"


def test_an_absent_fan_is_given_a_minute() -> None:
    stage = Stage().live().play(1_000)
    stage.meter.fan_gone(stage.now)
    stage.play(59_900)
    assert stage.meter.ending is None
    stage.play(200)
    assert stage.fact == "fan_absent"
    assert stage.ending.pause_cause is None
    assert 60_900 <= stage.delivered <= 61_200


def test_a_fan_who_leaves_in_a_pause_names_it() -> None:
    stage = Stage().live().play(5_000)
    stage.frames_every = None
    stage.play(12_500)
    stage.meter.fan_left(stage.now)
    assert (stage.fact, stage.ending.pause_cause) == ("fan_left", "creator")
    assert 12_400 <= stage.ending.paused_for_ms <= 12_600


def test_the_creator_leaves_and_the_open_gap_counts() -> None:
    stage = Stage().live().play(5_000)
    stage.frames_every = None
    stage.play(1_000)
    stage.meter.creator_left(stage.now)
    assert stage.fact == "creator_left"
    assert stage.delivered == 6_001
    stage.meter.close(stage.now)
    assert stage.fact == "creator_left"


# --- the cut ----------------------------------------------------------------------------------------


def test_the_cut_falls_on_the_paid_millisecond_by_the_gate_alone() -> None:
    stage = Stage(budget(60_000)).live().play(59_000)
    due = stage.meter.cut_due_in_ms(stage.now)
    assert due == 60_000 - 59_001
    assert stage.meter.may_forward(stage.now + due - 1)
    assert not stage.meter.may_forward(stage.now + due)
    stage.play(due)
    assert stage.fact == "time_expired"
    assert stage.delivered == 60_000


def test_a_late_look_at_an_end_within_a_gap_says_that_all_was_delivered() -> None:
    """No frame in the last 1.9 s that were paid; the look that sees the end comes when the gap is too long."""
    stage = Stage(budget(60_000)).live().play(58_100)
    stage.frames_every = None
    stage.play(1_850)
    assert stage.meter.ending is None
    stage.now += 200
    stage.meter.tick(stage.now)
    assert stage.fact == "time_expired"
    assert stage.delivered == 60_000


def test_a_raised_budget_moves_the_cut_and_a_late_lower_one_does_not() -> None:
    stage = Stage(budget(60_000)).live().play(30_000)
    assert stage.meter.grant(120_000, stage.now)
    assert stage.meter.grant(60_000, stage.now)
    stage.play(60_000)
    assert stage.meter.ending is None
    stage.play(30_100)
    assert stage.fact == "time_expired"
    assert stage.delivered == 120_000
    assert not stage.meter.grant(180_000, stage.now)


# --- our own side -----------------------------------------------------------------------------------


def test_a_stopped_process_delivers_nothing_and_forwards_nothing_that_queued_up() -> None:
    stage = Stage().live().play(10_000)
    before = stage.delivered
    stage.stop(10_000)
    assert not stage.meter.may_forward(stage.now)
    for _ in range(200):
        stage.meter.video_frame(stage.now, key=True)
        assert not stage.meter.may_forward(stage.now)
    figures = stage.meter.figures
    assert (figures.state, figures.cause, figures.delivered_ms) == ("paused", "node", before)
    assert 9_900 <= figures.node_pause_ms <= 10_100
    # However long it takes to read what queued up, it stays so
    for _ in range(200):
        stage.now += 100
        stage.meter.video_frame(stage.now, key=True)
        assert not stage.meter.may_forward(stage.now)
    assert stage.meter.figures.node_pause_ms >= 29_900
    # Nor does it end with a word that came late itself: something may have queued up again
    stage.now += 300
    stage.meter.caught_up(stage.now)
    assert stage.meter.behind
    stage.meter.caught_up(stage.now)
    assert stage.meter.figures.state == "paused"
    stage.play(500)
    assert stage.meter.figures.state == "running"
    assert stage.meter.figures.creator_pause_ms == 0


@pytest.mark.parametrize("paused", [False, True])
def test_what_queued_up_in_a_short_stall_of_ours_does_not_start_the_clock(paused: bool) -> None:
    stage = Stage()
    if paused:
        stage.live().play(10_000)
        stage.frames_every = None
        stage.play(5_000)
    else:
        stage.meter.fan_connected(stage.now)
    state = stage.meter.state
    # Given a stall that is no gap, in which a second of media came
    stage.now += 1_000
    for key in (True, False, False, False, False, False, True):
        stage.meter.video_frame(stage.now, key=key)
        assert (stage.meter.state, stage.meter.may_forward(stage.now)) == (state, False)
    # When it has been read to its end, then the next key frame starts the clock
    stage.meter.caught_up(stage.now)
    stage.frames_every = FRAME
    stage.play(500)
    assert stage.meter.state == "running"


def test_what_waited_to_be_told_is_no_arrival_while_the_clock_stands() -> None:
    stage = Stage()
    stage.meter.creator_seated(stage.now, here=True)
    stage.meter.fan_connected(stage.now)
    stage.meter.waited(stage.now, 250)
    assert not stage.meter.behind
    stage.meter.waited(stage.now, 251)
    stage.meter.video_frame(stage.now, key=True)
    assert (stage.meter.figures.state, stage.meter.may_forward(stage.now)) == ("waiting", False)
    stage.meter.caught_up(stage.now)
    stage.meter.video_frame(stage.now, key=True)
    assert stage.meter.figures.state == "running"


def test_what_waited_for_longer_than_a_gap_stops_the_clock_and_the_pause_is_ours() -> None:
    stage = Stage().live().play(10_000)
    delivered = stage.delivered
    # Told a moment late it is paid for, and passes
    stage.meter.waited(stage.now, 2_000)
    assert stage.meter.may_forward(stage.now)
    stage.meter.waited(stage.now, 2_001)
    assert not stage.meter.may_forward(stage.now)
    assert (stage.meter.figures.state, stage.meter.figures.cause) == ("paused", "node")
    # However much more of it there is: nothing counts before all of it has been told
    for _ in range(10):
        stage.now += FRAME
        stage.meter.waited(stage.now, 2_500)
        stage.meter.video_frame(stage.now, key=True)
    assert stage.meter.figures.state == "paused"
    assert stage.delivered == delivered
    stage.frames_every = FRAME
    stage.play(1_000)
    assert stage.meter.figures.state == "running"
    figures = stage.meter.figures
    assert figures.node_pause_ms > 400
    assert figures.creator_pause_ms == 0


def test_a_short_stall_while_media_runs_is_paid_for_and_passes() -> None:
    stage = Stage().live().play(10_000)
    before = stage.delivered
    stage.now += 1_000
    stage.meter.video_frame(stage.now, key=False)
    assert not stage.meter.behind
    assert stage.meter.may_forward(stage.now)
    stage._next_frame = stage.now
    stage.play(1_000)
    assert stage.delivered >= before + 1_900


def test_a_stopped_process_expires_nobodys_deadline() -> None:
    connecting = Stage().play(25_000).stop(20_000).play(4_800)
    assert connecting.meter.ending is None
    absent = Stage().live().play(1_000)
    absent.meter.fan_gone(absent.now)
    absent.play(50_000).stop(30_000).play(9_000)
    assert absent.meter.ending is None


def test_both_sides_broken_is_our_pause_first_and_then_the_creators() -> None:
    stage = Stage().live().play(5_000)
    stage.frames_every = None
    stage.stop(10_000).play(20_000)
    figures = stage.meter.figures
    assert (figures.state, figures.cause) == ("paused", "creator")
    assert 12_000 <= figures.node_pause_ms <= 12_600
    assert 17_000 <= figures.creator_pause_ms <= 18_100


def test_a_resumed_session_begins_in_our_pause_with_its_counters() -> None:
    given = budget(120_000, delivered_ms=60_000, creator_pause_ms=500, node_pause_ms=700, resumed=True)
    stage = Stage(given).play(5_000)
    figures = stage.meter.figures
    assert (figures.state, figures.cause, figures.delivered_ms) == ("paused", "node", 60_000)
    assert (figures.creator_pause_ms, figures.node_pause_ms) == (500, 5_700)
    stage.frames_every = FRAME
    stage.play(5_000)
    assert stage.meter.figures.state == "paused"
    assert stage.meter.figures.cause == "node"
    stage.meter.fan_connected(stage.now)
    stage.play(60_500)
    assert stage.fact == "time_expired"
    assert stage.meter.figures.creator_pause_ms == 500


def test_after_a_restart_the_fan_cannot_stop_the_clock_for_long() -> None:
    stage = Stage(budget(delivered_ms=60_000, resumed=True))
    stage.frames_every = FRAME
    stage.play(29_000)
    assert stage.meter.figures.state == "paused"
    stage.play(2_000)
    assert stage.meter.figures.state == "running"
    stage.play(30_000)
    assert stage.fact == "fan_absent"


def test_a_fan_who_never_came_back_after_a_restart_left_in_our_pause() -> None:
    stage = Stage(budget(delivered_ms=60_000, resumed=True))
    stage.frames_every = FRAME
    stage.play(61_000)
    assert (stage.fact, stage.ending.pause_cause) == ("fan_absent", "node")
    assert stage.ending.paused_for_ms >= timers_for(60_000).pause_leave_ms


def test_a_fan_who_came_back_and_went_is_absent_by_itself() -> None:
    stage = Stage(budget(delivered_ms=60_000, resumed=True))
    stage.frames_every = FRAME
    stage.meter.fan_connected(stage.play(1_000).now)
    stage.meter.fan_gone(stage.play(1_000).now)
    stage.play(61_000)
    assert (stage.fact, stage.ending.pause_cause) == ("fan_absent", None)


def test_the_pause_of_a_restart_began_with_the_crash() -> None:
    given = budget(delivered_ms=60_000, node_pause_ms=9_000, resumed=True, paused_for_ms=9_000)
    stage = Stage(given).play(1_500)
    stage.meter.fan_left(stage.now)
    assert (stage.ending.pause_cause, stage.ending.paused_for_ms) == ("node", 10_500)
    assert stage.meter.figures.node_pause_ms == 10_500


def test_figures_of_an_earlier_boot_that_come_late_are_taken_over_and_never_fall() -> None:
    stage = Stage(budget(60_000)).live().play(10_000)
    stage.meter.catch_up(budget(60_000, delivered_ms=50_000, node_pause_ms=700), stage.now)
    stage.meter.catch_up(budget(60_000, delivered_ms=20_000), stage.now)
    assert stage.delivered == 50_000
    assert stage.meter.figures.node_pause_ms == 700
    stage.play(10_100)
    assert stage.fact == "time_expired"
    assert stage.delivered == 60_000


def test_a_call_that_was_live_on_an_earlier_boot_does_not_begin_by_connecting() -> None:
    """A repeated OpenRoom had opened it as new; whoever stays away now was connected before."""
    stage = Stage(budget(300_000)).play(100)
    stage.meter.catch_up(budget(300_000, delivered_ms=90_000, resumed=True), stage.now)
    assert (stage.meter.figures.state, stage.meter.figures.cause) == ("paused", "node")
    stage.play(61_000)
    assert (stage.fact, stage.ending.pause_cause) == ("fan_absent", "node")
    assert stage.ending.creator_connected
    assert stage.ending.fan_connected
    here = Stage(budget(300_000))
    here.meter.fan_connected(here.now)
    here.meter.catch_up(budget(300_000, delivered_ms=90_000, resumed=True), here.now)
    here.frames_every = FRAME
    assert here.play(5_000).meter.figures.state == "running"


def test_a_resumed_session_with_nothing_left_ends_at_once() -> None:
    stage = Stage(budget(60_000, delivered_ms=60_000, resumed=True)).play(100)
    assert stage.fact == "time_expired"


# --- what may never happen --------------------------------------------------------------------------

Step = tuple[str, int]
STEPS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["frames", "slow", "none", "freeze"]), st.integers(1, 15_000)),
        st.tuples(
            st.sampled_from(["fan", "gone", "back", "off", "on", "delta", "key", "grant", "tick", "late"]),
            st.integers(0, 300),
        ),
    ),
    max_size=30,
)


def do(stage: Stage, what: str, amount: int) -> None:
    meter = stage.meter
    if what in ("frames", "slow", "none"):
        stage.frames_every = {"frames": FRAME, "slow": 300, "none": None}[what]
        stage.play(amount)
    elif what == "freeze":
        stage.stop(amount)
    elif what in ("fan", "gone", "back"):
        {"fan": meter.fan_connected, "gone": meter.fan_gone, "back": meter.fan_back}[what](stage.now)
    elif what in ("off", "on"):
        meter.declare_camera(stage.now, off=what == "off")
    elif what in ("delta", "key"):
        stage.keys = what == "key"
    elif what == "grant":
        meter.grant(amount * 1_000, stage.now)
    elif what == "late":
        meter.waited(stage.now, amount * 10)
    else:
        meter.tick(stage.now)


@given(steps=STEPS, minute_ms=st.sampled_from([2_000, 5_000, 60_000]), resumed=st.booleans())
def test_figures_only_rise_and_never_exceed_time_or_budget(
    steps: list[Step], minute_ms: int, resumed: bool
) -> None:
    stage = Stage(budget(60_000, minute_ms=minute_ms, resumed=resumed))
    begun = stage.now
    last = (0, 0, 0)
    for what, amount in [("fan", 0), ("frames", 500), *steps]:
        do(stage, what, amount)
        figures = stage.meter.figures
        current = (figures.delivered_ms, figures.creator_pause_ms, figures.node_pause_ms)
        assert all(now >= then for now, then in zip(current, last, strict=True))
        assert sum(current) <= stage.now - begun
        assert figures.delivered_ms <= figures.paid_ms
        if figures.state != "running":
            assert not stage.meter.may_forward(stage.now)
        assert (figures.state == "ended") == (stage.meter.ending is not None)
        last = current


@given(
    steps=STEPS, resumed=st.booleans(), paid_ms=st.integers(1_000, 20_000),
    later=st.lists(st.integers(0, 15_000), min_size=1, max_size=20),
)  # fmt: skip
def test_what_holds_for_a_while_without_asking_holds_for_who_asks(
    steps: list[Step], resumed: bool, paid_ms: int, later: list[int]
) -> None:
    """The native engine is told until when: it may never pass what the gate would not."""
    stage = Stage(budget(paid_ms, resumed=resumed))
    for what, amount in [("fan", 0), ("frames", 500), *steps]:
        do(stage, what, amount)
        meter, until, back = stage.meter, stage.meter.forward_until(), stage.meter.return_until()
        for moment in (stage.now + ahead for ahead in (0, *later)):
            if moment < until:
                assert meter.may_forward(moment)
            elif meter._camera_off_at is None:
                assert not meter.may_forward(moment)
            assert meter.may_return(moment) == (back is None or moment < back)
        if until > 0:
            assert meter.may_forward(until - 1)
            assert not meter.may_forward(until) or meter._camera_off_at is not None


@given(steps=STEPS)
def test_forwarded_time_is_delivered_paused_or_not_there(steps: list[Step]) -> None:
    """Every ms in which the gate stood open is in the delivered figure or in a counted pause."""
    stage = Stage(budget(60_000)).live()
    for what, amount in steps:
        do(stage, what, amount)
    begun = 1_000
    meter = stage.meter
    meter.close(stage.now)
    figures = meter.figures
    accounted = figures.delivered_ms + figures.creator_pause_ms + figures.node_pause_ms
    if figures.delivered_ms < figures.paid_ms and meter.ending and meter.ending.fact == "closed":
        assert accounted >= stage.now - begun - meter_slack(stage)


def meter_slack(stage: Stage) -> int:
    """Time that nobody is charged for: a last gap not yet decided."""
    return stage.meter._timers.gap_ms + 1_000


@given(distances=st.lists(st.integers(10, 1_900), min_size=5, max_size=60))
def test_short_gaps_agree_with_a_plain_definition(distances: list[int]) -> None:
    """Against the words themselves: the union of seconds with five frames, gaps up to 2 s counted."""
    meter = SessionMeter(budget(10_000_000), 0)
    meter.fan_connected(0)
    times = [0]
    for distance in distances:
        times.append(times[-1] + distance)
    covered, long_gap = 0, False
    for index in range(4, len(times)):
        first, last = times[index - 4], times[index]
        if last - first < 1_000 and not long_gap:
            long_gap = first - covered > 2_000
            covered = covered if long_gap else last
    long_gap = long_gap or times[-1] - covered > 2_000
    for moment in range(0, times[-1] + 1, 10):
        meter.tick(moment)
        for frame in times:
            if moment <= frame < moment + 10:
                meter.video_frame(frame, key=frame == 0)
    if meter.figures.state == "running":
        assert meter.figures.delivered_ms == covered
    else:
        assert long_gap
        assert meter.figures.delivered_ms <= covered
