"""RSA keys in PEM: what is read, and what is said of the rest without quoting it."""

import traceback

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1
from cryptography.hazmat.primitives.asymmetric.ec import generate_private_key as generate_ec_key
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.providers.yoti_builders import pem_of
from worker.rsa_key import load_key


@pytest.fixture(scope="module")
def key() -> RSAPrivateKey:
    return generate_private_key(public_exponent=65537, key_size=2048)


@pytest.mark.parametrize("layout", [PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL])
def test_both_kinds_of_pem_are_read_and_parsed_once(key, layout):
    pem = pem_of(key, layout)

    assert load_key(pem).private_numbers() == key.private_numbers()
    assert load_key(pem) is load_key(pem)


def test_anything_else_is_a_clear_mistake_and_not_quoted(key):
    ec = generate_ec_key(SECP256R1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    for pem, problem in (
        ("SECRET-TEXT", "is not an unencrypted private key in PEM"),
        ("\udcff", "is not an unencrypted private key in PEM"),
        (pem_of(key)[:300], "is not an unencrypted private key in PEM"),
        (pem_of(key, password=b"pw"), "is not an unencrypted private key in PEM"),
        (ec, "is not an RSA key"),
    ):
        with pytest.raises(ValueError, match="is not an") as error:
            load_key(pem)
        assert str(error.value) == problem
        assert pem not in "".join(traceback.format_exception(error.value))
