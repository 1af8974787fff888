"""Commands of the operator, obeyed by a run; with several hosts by each of them, and written down by the first.

Also looks for what other hosts decided. Raises what the ledger's writer raises.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

from sqlalchemy import Connection

from resend.clock import parse_rate
from resend.executor.standing import adopt, standing
from resend.model import ControlKind
from resend.stores import control
from resend.stores.rows import Control, Rate
from resend.stores.transitions import RateChange

if TYPE_CHECKING:
    from resend.executor.lane import Lane
    from resend.executor.run import Run

_LATE = 20  # ids are given before their commands are there to be seen: so many are looked at again

Fields = dict[str, str | int | float | datetime | None]


@dataclass(slots=True)
class Orders:
    """What a run was told so far."""

    run: Run
    _obeyed: set[int] = field(default_factory=set)  # ids of commands

    async def begin(self) -> None:
        """What was seen before this run began is not for it."""
        last = await self.run.writer.call(control.newest)
        self._obeyed = set(range(max(0, last - _LATE), last + 1))

    async def obey(self) -> None:
        """Obey what was said since the last look; it also holds for providers that have no lane now."""
        run = self.run
        decided = {place: lane.decisions for place, lane in run.lanes.items()}
        commands, first, rates = await run.writer.call(self._read)
        if run.options.shared_pace:
            for rate in rates:
                place = (rate.egress, rate.provider)
                if place in decided and run.lanes[place].decisions == decided[place]:
                    adopt(run.lanes[place], rate)
        self._obeyed |= {command.id for command in commands}
        for command in commands:
            lanes = [lane for place, lane in run.lanes.items() if command.meets(*place)]
            fields = self._carry_out(command, lanes)
            if command.id in first:
                self._write_down(command, lanes, rates, fields)

    def _carry_out(self, command: Control, lanes: list[Lane]) -> Fields:
        """Do it; what it changes for a provider without a lane."""
        run = self.run
        match command.kind:
            case ControlKind.STOP:
                run.stop(f"stopped by {command.who}: {command.reason}")
                return {}
            case ControlKind.PAUSE | ControlKind.RESUME:
                paused = command.kind is ControlKind.PAUSE
                if not command.provider:
                    run.paused = paused
                for lane in lanes:
                    lane.paused = paused
                    if not paused:
                        lane.guard.resume()
                return {"paused": 1} if paused else {"paused": 0, "parked": "", "half_open": 0, "next_cooldown_s": 0.0}
            case ControlKind.RATE:
                rate = parse_rate(command.value)
                for lane in lanes:
                    lane.set_rate(rate)
                return {"rate": rate, "ceiling": rate}

    def _write_down(self, command: Control, lanes: list[Lane], rates: list[Rate], fields: Fields) -> None:
        run = self.run
        for lane in lanes:
            run.write(standing(lane, command.kind.value, command.reason, who=command.who))
        for rate in rates:
            if command.meets(rate.egress, rate.provider) and (rate.egress, rate.provider) not in run.lanes:
                run.write(
                    RateChange(
                        egress=rate.egress,
                        provider=rate.provider,
                        what=command.kind.value,
                        reason=command.reason,
                        at=run.clock.now(),
                        fields=fields,
                        who=command.who,
                        plan_id=run.plan_id,
                    )
                )

    def _read(self, conn: Connection) -> tuple[list[Control], set[int], list[Rate]]:
        """Commands that are new to this host, the ids of those that no host had seen, and all rates."""
        found = unseen = control.unseen(conn)
        new = {item.id for item in unseen}
        shared = self.run.options.shared_pace
        if shared:
            late = control.since(conn, max(self._obeyed, default=0) - _LATE)
            found = sorted(
                [*unseen, *(item for item in late if item.id not in self._obeyed | new)], key=lambda item: item.id
            )
        if unseen:
            control.mark_seen(conn, sorted(new), now=self.run.clock.now())
        return found, new, control.rates(conn) if found or shared else []
