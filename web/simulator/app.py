"""One Flask app that is all four providers, each below its own prefix."""

from flask import Flask, Response

from web.simulator import gu1_api, persona_api, verifik_api, yoti_api
from web.simulator.credentials import BASE_PATHS
from web.simulator.gate import Site, json_response


def create_app(site: Site) -> Flask:
    """The simulated providers. They share nothing but the port."""
    app = Flask("verisink-simulator", static_folder=None)
    app.url_map.merge_slashes = False
    app.register_blueprint(persona_api.blueprint(site), url_prefix=BASE_PATHS["persona"])
    app.register_blueprint(verifik_api.blueprint(site), url_prefix=BASE_PATHS["verifik"])
    app.register_blueprint(gu1_api.blueprint(site), url_prefix=BASE_PATHS["gu1"])
    app.register_blueprint(yoti_api.blueprint(site), url_prefix=BASE_PATHS["yoti"])

    @app.get("/")
    def index() -> Response:
        return json_response({"simulator": "verisink", "providers": dict(BASE_PATHS)})

    return app
