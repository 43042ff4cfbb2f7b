"""RSA keys in PEM: read once for each text, for the settings to check and for requests to be signed with."""

from functools import lru_cache

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key


@lru_cache(maxsize=64)
def load_key(pem: str) -> RSAPrivateKey:
    """The private key, PKCS#1 or PKCS#8. Raises ValueError, which says what the text is not, and quotes nothing."""
    try:
        key = load_pem_private_key(pem.encode("utf-8"), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise ValueError("is not an unencrypted private key in PEM") from None
    if not isinstance(key, RSAPrivateKey):
        raise ValueError("is not an RSA key")
    return key
