"""Let the SDK of Label Studio judge a configuration and its tasks; print how many there are."""
# mypy: ignore-errors

import json
import sys
from pathlib import Path

from label_studio_sdk.label_interface import LabelInterface

folder = Path(sys.argv[1])
interface = LabelInterface((folder / "labels.xml").read_text(encoding="utf-8"))
interface.validate()
tasks = json.loads((folder / "tasks.json").read_text(encoding="utf-8"))
counts = {"tasks": len(tasks), "predictions": 0, "annotations": 0}
for task in tasks:
    for prediction in task.pop("predictions"):
        assert interface.validate_prediction(prediction, return_errors=True) == [], prediction
        counts["predictions"] += 1
    for annotation in task.pop("annotations", ()):
        assert interface.validate_annotation(annotation), annotation
        counts["annotations"] += 1
    assert interface.validate_task(task), task
print(json.dumps(counts))
