"""Import a shared folder with FiftyOne, and print its samples.

Where no MongoDB can be started, mongomock takes its place; all else is FiftyOne's own code.
"""
# mypy: ignore-errors

import json
import os
import sys

try:
    import mongoengine
    import mongomock
    import pymongo
except ImportError:
    mongomock = None

if mongomock is not None:
    os.environ["FIFTYONE_DATABASE_URI"] = "mongodb://localhost"
    os.environ["FIFTYONE_DISABLE_SERVICES"] = "1"

    class Client(mongomock.MongoClient):
        """A database in memory that says the version which FiftyOne asks for."""

        _closed = False

        def __init__(self, *_, **__):
            super().__init__("localhost")

        def server_info(self):
            return {"version": "7.0.2", "versionArray": [7, 0, 2, 0]}

    client = Client()
    connect = mongoengine.connect
    pymongo.MongoClient = lambda *_, **__: client
    mongoengine.connect = lambda name, **_: connect(
        name, host="mongodb://localhost", mongo_client_class=lambda *_, **__: client
    )

import fiftyone as fo

dataset = fo.Dataset.from_dir(sys.argv[1], dataset_type=fo.types.FiftyOneDataset, name="shared")
samples = [
    {name: sample[name] for name in ("filepath", "score", "p_value", "view_gan", "reasons")}
    for sample in dataset
]
found = {
    "samples": samples,
    "flagged": len(dataset.match_tags("flagged")),
    "marks": dataset.count_values("mark.label"),
}
found["marks"].pop(None, None)
print()
print(json.dumps(found))
