"""Who may come in: keys are kept as hashes only, and compared in constant time, all of them for every request."""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from collections.abc import Mapping, Sequence

from fathom.errors import UsageError
from fathom.serve.config import KeyEntry
from fathom.serve.limits import Client
from fathom.serve.refusal import Refused
from fathom.serve.shared import Allowances

__all__ = ["Keys", "new_key"]

ANYONE = "anyone"


def new_key(name: str) -> tuple[str, str]:
    """A fresh key, and the lines of configuration that let it in. Raises UsageError for a name that cannot be one."""
    if not 0 < len(name) <= 64 or not name.isprintable():
        raise UsageError(f"a key's name has 1 to 64 printable characters; {name[:100]!r} has not")
    key = f"fathom-{secrets.token_urlsafe(32)}"
    quoted = json.dumps(name, ensure_ascii=False)  # which of printable characters escapes what TOML does
    return key, f'[[keys]]\nname = {quoted}\nsha256 = "{hashlib.sha256(key.encode()).hexdigest()}"\n'


class Keys:
    """The keys of a gateway. Without any, everybody is the same client."""

    def __init__(self, entries: Sequence[KeyEntry], allowances: Allowances | None = None) -> None:
        self._clients = [(bytes.fromhex(entry.sha256), Client.of(entry, allowances)) for entry in entries]
        self._anyone = Client(ANYONE)

    def __repr__(self) -> str:
        return f"Keys({len(self._clients)} keys)"

    @property
    def needed(self) -> bool:
        """Whether a key is asked for at all."""
        return bool(self._clients)

    def client_of(self, headers: Mapping[str, str]) -> Client:
        """Whose request it is. Raises Refused (401)."""
        if not self._clients:
            return self._anyone
        scheme, _, key = headers.get("Authorization", "").partition(" ")
        digest = hashlib.sha256(key.strip().encode("utf-8", "surrogateescape")).digest()
        found: Client | None = None
        for known, client in self._clients:
            if hmac.compare_digest(known, digest):
                found = client
        if found is None or scheme.lower() != "bearer":
            raise Refused(
                401, "no valid API key: send one as 'Authorization: Bearer …'", code="invalid_api_key", again=False
            )
        return found
