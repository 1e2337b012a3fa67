"""Read CSV files with napari's own reader, make layers of them, and print what they are."""
# mypy: ignore-errors

import json
import sys
from pathlib import Path

from napari.layers import Layer
from napari_builtins.io import csv_to_layer_data

found = {}
for path in sorted(Path(sys.argv[1]).glob("*.csv")):
    data, meta, kind = csv_to_layer_data(str(path), require_type="any")
    layer = Layer.create(data, meta, kind)
    found[path.name] = {
        "type": kind,
        "count": len(layer.data),
        "axes": layer.ndim,
        "properties": sorted(layer.properties),
    }
print(json.dumps(found))
