"""Read a shared folder with anomalib's data module, and print how many images of each kind it has."""
# mypy: ignore-errors

import json
import sys

from anomalib.data import Folder

data = Folder(
    name="shared", root=sys.argv[1], normal_dir="normal", abnormal_dir="abnormal",
    train_batch_size=1, eval_batch_size=1, num_workers=0,
    normal_split_ratio=0.0, test_split_mode="from_dir", val_split_mode="none",
)  # fmt: skip
data.setup()
table = data.train_data.samples
parts = [table] + [part.samples for part in (data.test_data,) if part is not None]
names = {"normal": set(), "abnormal": set()}
for part in parts:
    for path, label in zip(part["image_path"], part["label_index"], strict=True):
        names["abnormal" if int(label) else "normal"].add(path)
found = {name: len(paths) for name, paths in names.items()}
found["shape"] = list(data.train_data[0].image.shape)
print()
print(json.dumps(found))
