"""Bearer tokens of an OpenID Connect issuer: from a token to a caller, and where the issuer's keys come from.

    token ─▶ its header's key id ─▶ the issuer's keys (fetched over HTTPS, kept, fetched again) ─▶ claims ─▶ caller

The keys are fetched again after an hour, and when a token names one that is not known: so a rotation at the issuer is
followed at once. Made-up key ids can't make the hub flood the issuer, since between two fetches pass ten seconds. While
the issuer can't be reached, the keys that are known go on to count.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import aiohttp
import jwt
import structlog

from control_plane.access.caller import OIDC, Caller, checked_subject
from control_plane.access.errors import InvalidSubject, IssuerUnavailable, TokenRefused

# What an issuer signs with its private key. Nothing here is made with a key that we would have to know.
_ALGORITHMS: Final = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]
_LEEWAY_SECONDS = 60.0
_KEPT_SECONDS = 3600.0
_PAUSE_SECONDS = 10.0
_FETCH_SECONDS = 10.0
_LARGEST = 1 << 20
_LONGEST_TOKEN = 16 << 10

_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Issuer:
    """Whose tokens count: those of `url` that were made for `client`. `ca` is a file, where the system's do not do."""

    url: str
    client: str
    user_claim: str = "sub"
    groups_claim: str = "groups"
    ca: Path | None = None

    def __post_init__(self) -> None:
        if urlsplit(self.url).scheme != "https":
            raise ValueError(f"the issuer {self.url!r} must be an https:// address")
        if not self.client:
            raise ValueError("the issuer's tokens are made for somebody: say for which client id")


class Tokens:
    """The tokens of one issuer. `pause` is the least time between two fetches of its keys."""

    def __init__(self, issuer: Issuer, *, pause: float = _PAUSE_SECONDS, kept: float = _KEPT_SECONDS) -> None:
        self._issuer = issuer
        self._pause = pause
        self._kept = kept
        self._keys: dict[str, jwt.PyJWK] = {}
        self._fetched: float | None = None  # the keys, on the loop's clock
        self._tried: float | None = None
        self._fetching = asyncio.Lock()
        self._context = ssl.create_default_context(cafile=issuer.ca)

    async def caller(self, token: str) -> Caller:
        """Who the token stands for. TokenRefused, IssuerUnavailable."""
        if len(token) > _LONGEST_TOKEN:
            raise TokenRefused(f"it has {len(token)} characters, more than any token")
        try:
            header = jwt.get_unverified_header(token)
        except jwt.InvalidTokenError as error:
            raise TokenRefused("it is not a JSON web token") from error
        if header.get("alg") not in _ALGORITHMS:
            raise TokenRefused("it is not signed in a way that counts here")
        key = await self._key(str(header.get("kid", "")))
        try:
            claims: dict[str, Any] = jwt.decode(
                token,
                key,
                algorithms=_ALGORITHMS,
                issuer=self._issuer.url,
                audience=self._issuer.client,
                leeway=_LEEWAY_SECONDS,
                options={"require": ["exp", "iat", "iss", "aud", "sub"]},
            )
        except jwt.ExpiredSignatureError as error:
            raise TokenRefused("it has run out: log in again") from error
        except jwt.InvalidAudienceError as error:
            raise TokenRefused(f"it was made for somebody else than {self._issuer.client}") from error
        except jwt.InvalidIssuerError as error:
            raise TokenRefused(f"it is not of {self._issuer.url}") from error
        except jwt.InvalidSignatureError as error:
            raise TokenRefused("its signature is wrong") from error
        except (jwt.InvalidTokenError, jwt.PyJWTError) as error:
            raise TokenRefused(str(error)) from error
        return self._named(claims)

    def _named(self, claims: Mapping[str, Any]) -> Caller:
        audience = claims["aud"]
        if isinstance(audience, list) and len(audience) > 1 and claims.get("azp") != self._issuer.client:
            raise TokenRefused(f"it was made for several, and not for {self._issuer.client} to use")
        name = claims.get(self._issuer.user_claim)
        if not isinstance(name, str):
            raise TokenRefused(f"it has no claim {self._issuer.user_claim} that names a user")
        if self._issuer.user_claim == "email" and claims.get("email_verified") is False:
            raise TokenRefused("its issuer has not verified the address in it")
        groups = claims.get(self._issuer.groups_claim, [])
        if isinstance(groups, str):
            groups = [groups]
        if not isinstance(groups, list) or not all(isinstance(group, str) for group in groups):
            raise TokenRefused(f"its claim {self._issuer.groups_claim} is not a list of names")
        try:
            return Caller(checked_subject(OIDC + name), tuple(groups), float(claims["exp"]) + _LEEWAY_SECONDS)
        except InvalidSubject as error:
            raise TokenRefused(f"its claim {self._issuer.user_claim} is no name that roles can be bound to") from error

    # ------------------------------------------------------------------------------- the issuer's keys

    async def _key(self, kid: str) -> jwt.PyJWK:
        clock = asyncio.get_running_loop().time
        async with self._fetching:
            old = self._fetched is None or clock() >= self._fetched + self._kept
            rested = self._tried is None or clock() >= self._tried + self._pause
            if (old or kid not in self._keys) and rested:
                self._tried = clock()
                if (keys := await self._fetch()) is not None:
                    self._keys, self._fetched = keys, clock()
        key = self._keys.get(kid)
        if key is not None:
            return key
        if self._fetched is None:
            raise IssuerUnavailable(f"the issuer {self._issuer.url} can't be asked for its keys just now: try again")
        raise TokenRefused("it is signed with a key that its issuer does not have, or not any more")

    async def _fetch(self) -> dict[str, jwt.PyJWK] | None:
        """The issuer's keys by their ids; None if they could not be had."""
        try:
            connector = aiohttp.TCPConnector(ssl=self._context)
            timeout = aiohttp.ClientTimeout(total=_FETCH_SECONDS)
            async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
                about = await _json(session, f"{self._issuer.url.rstrip('/')}/.well-known/openid-configuration")
                if about.get("issuer") != self._issuer.url:
                    raise ValueError(f"it calls itself {about.get('issuer')!r}")
                place = str(about.get("jwks_uri", ""))
                if urlsplit(place).scheme != "https":
                    raise ValueError(f"its keys lie at {place!r}, which is not an https:// address")
                found = jwt.PyJWKSet.from_dict(await _json(session, place))
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError, jwt.PyJWTError) as error:
            _log.warning("the issuer's keys can't be had", issuer=self._issuer.url, error=str(error) or repr(error))
            return None
        return {key.key_id or "": key for key in found.keys if key.public_key_use in (None, "sig")}


async def _json(session: aiohttp.ClientSession, url: str) -> dict[str, Any]:
    """An object that lies there. ValueError, ClientError."""
    async with session.get(url, allow_redirects=False) as response:
        if response.status != 200:
            raise ValueError(f"{url} answered {response.status}")
        data = await response.content.read(_LARGEST + 1)
        while len(data) <= _LARGEST and (more := await response.content.read(_LARGEST + 1 - len(data))):
            data += more
    if len(data) > _LARGEST:
        raise ValueError(f"{url} has more than {_LARGEST} bytes")
    found = json.loads(data)
    if not isinstance(found, dict):
        raise ValueError(f"{url} is not a JSON object")
    return found
