"""The private key that signs our mail, read from its file. Raises ConfigError; never shows the key."""

from __future__ import annotations

from pathlib import Path

from resend.config import Config
from resend.errors import ConfigError
from resend.policy.dkim import Signer, available
from resend.policy.message import ContentError


def load_signer(config: Config) -> Signer | None:
    """Who signs by `[dkim]`, None where the relay does. A key that others may read is refused, as ssh does."""
    wanted = config.dkim
    if not wanted.key_file:
        return None
    if not available():
        raise ConfigError(
            "[dkim] needs dkimpy",
            where="dkim.key_file",
            next_step="install bulk-resend[dkim], or remove [dkim] and let the relay sign",
        )
    path = Path(wanted.key_file).expanduser()
    try:
        mode = path.stat().st_mode
        key = path.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"cannot read the key: {error.strerror}", where=str(path), next_step="see [dkim] key_file"
        ) from None
    if mode & 0o077:
        raise ConfigError(
            f"others may read the key (mode {mode & 0o777:04o})", where=str(path), next_step=f"chmod 600 {path}"
        )
    signer = Signer(domain=wanted.domain, selector=wanted.selector, key=key)
    try:
        signer.check()
    except ContentError as error:
        raise ConfigError(
            f"no RSA key in PEM that can sign ({error})", where=str(path), next_step="see [dkim] key_file"
        ) from None
    return signer
