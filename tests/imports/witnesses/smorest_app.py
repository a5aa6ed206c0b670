"""An app of Flask with flask-smorest, and its spec.

python -m tests.imports.witnesses.smorest_app
"""

from __future__ import annotations

import json

from flask import Flask
from flask.views import MethodView
from flask_smorest import Api, Blueprint
from marshmallow import Schema, fields

app = Flask(__name__)
app.config.update(API_TITLE="pets", API_VERSION="v1", OPENAPI_VERSION="3.0.3")
api = Api(app)
blueprint = Blueprint("pets", "pets", url_prefix="/pets")


class PetSchema(Schema):
    """A pet."""

    id = fields.Int(dump_only=True)
    name = fields.Str()
    owner = fields.Str()


class PetQuery(Schema):
    """Parameters of the list."""

    name = fields.Str()


@blueprint.route("/")
class Pets(MethodView):
    """All pets."""

    @blueprint.arguments(PetQuery, location="query")
    @blueprint.response(200, PetSchema(many=True))
    def get(self, query):
        """List."""

    @blueprint.arguments(PetSchema)
    @blueprint.response(201, PetSchema)
    def post(self, pet):
        """Create."""


@blueprint.route("/<int:pet_id>")
class Pet(MethodView):
    """One pet."""

    @blueprint.response(200, PetSchema)
    def get(self, pet_id):
        """Read."""

    @blueprint.arguments(PetSchema)
    @blueprint.response(200, PetSchema)
    def put(self, pet, pet_id):
        """Update."""

    @blueprint.response(204)
    def delete(self, pet_id):
        """Delete."""


@blueprint.route("/<int:pet_id>/vaccinations/<uuid:vaccination_id>")
@blueprint.response(200, PetSchema)
def vaccination(pet_id, vaccination_id):
    """Read one."""


@blueprint.route("/<int:pet_id>/adopt", methods=["POST"])
@blueprint.response(204)
def adopt(pet_id):
    """Adopt one."""


api.register_blueprint(blueprint)

if __name__ == "__main__":
    print(json.dumps(api.spec.to_dict()))
