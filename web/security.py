"""Headers of every answer: nothing that this application says is for a browser to guess at, to keep or to pass on."""

HEADERS = (
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
    ("Cache-Control", "no-store"),
)
