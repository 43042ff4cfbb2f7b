"""Made-up people for sample documents. No real person's data, and nothing that a provider would know."""

import random
from dataclasses import dataclass

FIRST_NAMES = ("Amara", "Bruno", "Chiara", "Dmitri", "Elif", "Farid", "Greta", "Hiro", "Ines", "Jonas", "Keiko", "Luz")
LAST_NAMES = ("Acosta", "Bergmann", "Castillo", "Dubois", "Eriksen", "Fontana", "Gupta", "Haddad", "Ibarra", "Jansen")
CITIES = (("Bogota", "CO"), ("Lisbon", "PT"), ("Buenos Aires", "AR"), ("Leeds", "GB"), ("Portland", "US"))


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody who is verified."""

    first_name: str
    last_name: str
    birthdate: str
    city: str
    country: str
    document_number: str
    phone: str

    @property
    def full_name(self) -> str:
        return f"{self.first_name} {self.last_name}"

    @property
    def email(self) -> str:
        return f"{self.first_name}.{self.last_name}@example.com".lower()


def draw(rng: random.Random) -> Person:
    city, country = rng.choice(CITIES)
    return Person(
        first_name=rng.choice(FIRST_NAMES),
        last_name=rng.choice(LAST_NAMES),
        birthdate=f"{rng.randint(1955, 2004)}-{rng.randint(1, 12):02d}-{rng.randint(1, 28):02d}",
        city=city,
        country=country,
        document_number=f"X{rng.randint(10_000_000, 99_999_999)}",
        phone=f"+1555{rng.randint(1_000_000, 9_999_999)}",
    )
