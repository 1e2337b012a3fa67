"""Let CleanVision look at a folder, and join what it finds with a shared table; print what came out."""
# mypy: ignore-errors

import json
import sys
from pathlib import Path

import pandas as pd
from cleanvision import Imagelab

images, shared = map(Path, sys.argv[1:])
lab = Imagelab(data_path=str(images), verbose=False)
lab.find_issues({"dark": {}, "light": {}}, n_jobs=1, verbose=False)
ours = pd.read_csv(shared / "issues.csv", index_col=0)
issues = lab.issues.join(ours)
kinds = {lab.issues["is_dark_issue"].dtype, issues["is_anowild_odd_issue"].dtype}
summary = pd.read_csv(shared / "issue_summary.csv")
print(
    json.dumps(
        {
            "images": len(issues),
            "flagged": int(issues["is_anowild_odd_issue"].sum()),
            "without": int(issues["anowild_odd_score"].isna().sum()),
            "type": ", ".join(map(str, kinds)),
            "alike": list(summary.columns) == list(lab.issue_summary.columns),
        }
    )
)
