"""What is set aside for the trajectories of a session, so that each can still be concluded: tokens, and memory with
them."""

from __future__ import annotations

from fathom.budget import Lease, Meter, Pricing
from fathom.records import Trajectory

__all__ = ["Leases"]


class Leases:
    """The leases of trajectories that may still be concluded, and the bytes that are held for each."""

    def __init__(self) -> None:
        self._held: dict[Lease, int] = {}

    def hold(self, lease: Lease, memory_bytes: int = 0) -> None:
        """Keep a lease, and count so much memory until it is freed."""
        self._held[lease] = memory_bytes
        if memory_bytes:  # nothing is known of what servers hold
            lease.meter.hold(memory_bytes)

    def free(self, lease: Lease) -> None:
        """Give back the tokens of a lease that are not used, and the memory that is held with it."""
        lease.close()
        if size := self._held.pop(lease, 0):
            lease.meter.hold(-size)

    def of(self, trajectory: Trajectory, meter: Meter, tokens: int, price: Pricing | None) -> Lease:
        """What pays for a trajectory's conclusion: its own lease, or a new one of so many ``tokens`` where that has
        gone to children that did not come back."""
        lease: Lease | None = trajectory.state.lease
        if lease is None or lease.left == 0:
            lease = meter.lease(tokens, price=price)
            self.hold(lease)
        return lease

    def drop(self, trajectory: Trajectory) -> None:
        """Nothing more will come of it."""
        if trajectory.state.lease is not None:
            self.free(trajectory.state.lease)

    def close(self) -> None:
        for lease in list(self._held):
            self.free(lease)
