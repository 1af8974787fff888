"""An RSA key for tests, made anew by openssl: no private key lies in the repository."""

from __future__ import annotations

import base64
import shutil
import subprocess
from functools import cache

import pytest


@cache
def rsa_key() -> tuple[bytes, str]:
    """The private key in PEM and the TXT record of its public half."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("needs openssl")
    pem = subprocess.run([openssl, "genrsa", "1024"], check=True, capture_output=True).stdout
    der = subprocess.run(
        [openssl, "rsa", "-pubout", "-outform", "DER"], input=pem, check=True, capture_output=True
    ).stdout
    return pem, f"v=DKIM1; k=rsa; p={base64.b64encode(der).decode()}"
