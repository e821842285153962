"""A brake on guesses of the token: the more wrong ones from an address, the longer the next one takes."""

import asyncio
import hashlib
import hmac
import ipaddress
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

FREE_TRIES, FIRST_WAIT_S, LONGEST_WAIT_S = 10, 0.05, 1.0
MOST_AHEAD_S = 5.0  # who would wait longer than this for a turn is sent away
FORGOTTEN_S, MOST_ADDRESSES = 600.0, 4096


@dataclass
class _Tries:
    wrong: int
    last: float
    next_turn: float


@dataclass
class Brake:
    """Compares tokens, for each address one after the other once it has given too many wrong ones.

    Others are not kept waiting. The right token is always taken at its turn, at most `LONGEST_WAIT_S` after
    the one before, and ends the free tries of its address without making it wait. Wrong ones are forgotten
    after `FORGOTTEN_S` without another.
    """

    token: str
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    _tries: dict[str, _Tries] = field(default_factory=dict)

    async def opens(self, given: str, address: str) -> bool | None:
        """Whether this is the token; None, and nothing compared, where too many wait for their turn."""
        address = _network(address)
        tries = self._tries.get(address)
        if tries is not None:
            now = self.clock()
            wait_s = tries.next_turn - now
            if wait_s > MOST_AHEAD_S:
                return None
            tries.next_turn = max(tries.next_turn, now) + _spacing_s(tries.wrong)
            if wait_s > 0:
                await self.sleep(wait_s)
        is_right = same(given, self.token)
        self._remember(address, is_right)
        return is_right

    def _remember(self, address: str, is_right: bool) -> None:
        now = self.clock()
        tries = self._tries.pop(address, None)
        if tries is None or now - tries.last > FORGOTTEN_S:
            if is_right:
                return
            tries = _Tries(0, now, now)
        tries.wrong = min(tries.wrong, FREE_TRIES) if is_right else tries.wrong + 1
        tries.last = tries.last if is_right else now
        self._tries[address] = tries  # the last one wrong stands last
        if len(self._tries) > MOST_ADDRESSES:
            del self._tries[next(iter(self._tries))]


def same(given: str, token: str) -> bool:
    """Whether two secrets are equal, in a time that does not say how much of them is."""
    digests = (hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest() for text in (given, token))
    return hmac.compare_digest(*digests)


def _spacing_s(wrong: int) -> float:
    """Seconds from one try to the next of an address."""
    beyond = min(wrong - FREE_TRIES, 16)
    return min(FIRST_WAIT_S * 2.0**beyond, LONGEST_WAIT_S) if beyond > 0 else 0.0


def _network(address: str) -> str:
    """What one client has: an IPv4 address, or the 64 bits of an IPv6 address that its network gives it."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(ip, ipaddress.IPv4Address):
        return str(ip)
    return str(ip.ipv4_mapped or ipaddress.ip_network((int(ip) >> 64 << 64, 64)))
