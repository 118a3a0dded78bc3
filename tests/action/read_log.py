"""Turns act's JSON log into what a test asks for. Called by act_run.sh with the results directory.

Reads log.jsonl. Writes log.txt (as a person would see it), outputs.json (of the action), steps.json (result of each
step, by id), summary.md (all steps' summaries) and annotations.json (errors, warnings and notices, in order).
A line that is not JSON, such as act's own crash, is kept in log.txt as it is.
"""

import json
import pathlib
import sys


def entries(lines):
    for line in lines:
        try:
            entry = json.loads(line)
        except ValueError:
            entry = None
        yield entry if isinstance(entry, dict) else {"msg": line}


def collect(lines):
    log, outputs, steps, summary, annotations = [], {}, {}, [], []
    for entry in entries(lines):
        step = ".".join(entry.get("stepID") or [])
        command = entry.get("command")
        log.append(f"[{step}] {entry.get('msg', '').rstrip()}")
        if command == "set-output" and step == "belay":
            outputs[entry["name"]] = entry["arg"]
        elif command == "summary":
            summary.append(entry["content"])
        elif command in ("error", "warning", "notice"):
            annotations.append({"kind": command, "message": entry["arg"], **(entry.get("kvPairs") or {})})
        if "stepResult" in entry and entry.get("stage") == "Main":
            steps[step] = entry["stepResult"]
    return log, outputs, steps, summary, annotations


def main(results):
    text = (results / "log.jsonl").read_text(encoding="utf-8", errors="replace")
    log, outputs, steps, summary, annotations = collect(text.splitlines())
    (results / "log.txt").write_text("\n".join(log) + "\n", encoding="utf-8")
    (results / "summary.md").write_text("\n".join(summary), encoding="utf-8")
    for name, value in {"outputs": outputs, "steps": steps, "annotations": annotations}.items():
        (results / f"{name}.json").write_text(json.dumps(value, indent=2, sort_keys=True) + "\n", encoding="utf-8")


main(pathlib.Path(sys.argv[1]))
