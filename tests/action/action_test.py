"""Proves the rules of action.yml, the workflows and the examples that no schema knows. Run by dist-scripts/lint.

A composite action exports no INPUT_* variables, so an input that is not mapped in `env:` is silently lost on GitHub,
while act would hide the fault by setting them. Reads files only. Failure: a plain unittest report and exit 1.
"""

import pathlib
import re
import unittest

from ruamel.yaml import YAML

TREE = pathlib.Path(__file__).resolve().parents[2]
INPUTS = """command tag rollback reason restore-data confirm service environment config host port user ssh-key ssh-key-passphrase known-hosts
token notify-url notify-on dry-run lock-wait install""".split()
OUTPUTS = """outcome version previous-version revision environment-url deployment-id backup rolled-back failed-requests
longest-gap-ms duration-ms image-size comment-posted""".split()


def load(path):
    return YAML(typ="safe").load((TREE / path).read_text(encoding="utf-8"))


def variable(name):
    return "BELAY_" + name.upper().replace("-", "_")


def workflows():
    for folder in (".github/workflows", "examples/workflows"):
        for path in sorted((TREE / folder).glob("*.yml")):
            yield path.relative_to(TREE), load(path)


def steps_of(workflow):
    for job in workflow["jobs"].values():
        yield from job["steps"]


class TheAction(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.action = load("action.yml")
        cls.steps = {step["id"]: step for step in cls.action["runs"]["steps"]}

    def test_has_the_inputs_and_outputs_that_are_promised(self):
        self.assertEqual(list(self.action["inputs"]), INPUTS)
        self.assertEqual(list(self.action["outputs"]), OUTPUTS)

    def test_every_input_and_output_is_described_and_no_input_is_required(self):
        for name, entry in {**self.action["inputs"], **self.action["outputs"]}.items():
            self.assertTrue(entry["description"].strip(), name)
        for name, entry in self.action["inputs"].items():
            self.assertIs(entry["required"], False, name)
            self.assertIsInstance(entry["default"], str, name)

    def test_every_input_reaches_run_and_finalize_and_nothing_else_does(self):
        mapped = {variable(name): f"${{{{ inputs.{name} }}}}" for name in INPUTS if name != "install"}
        fixed = {
            "BELAY_BIN": "${{ steps.install.outputs.bin }}",
            "BELAY_JOB_CHECK_RUN_ID": "${{ job.check_run_id }}",
        }
        self.assertEqual(self.steps["install"]["env"], {"BELAY_INSTALL": "${{ inputs.install }}"})
        self.assertEqual(self.steps["run"]["env"], {**mapped, **fixed})
        settled = {**mapped, **fixed, "BELAY_STEP_OUTCOME": "${{ steps.run.outcome }}"}
        self.assertEqual(self.steps["finalize"]["env"], settled)

    def test_every_output_prefers_what_finalize_found(self):
        for name in OUTPUTS:
            first = f"steps.finalize.outputs.{name} || steps.run.outputs.{name}"
            self.assertIn(first, self.action["outputs"][name]["value"], name)

    def test_the_binary_is_the_entry_process_of_its_steps(self):
        self.assertEqual(list(self.steps), ["install", "run", "finalize"])
        self.assertEqual(self.steps["run"]["run"], 'exec "$BELAY_BIN" run')
        self.assertEqual(self.steps["finalize"]["run"], 'exec "$BELAY_BIN" finalize')

    def test_finalize_runs_whenever_there_is_a_binary(self):
        self.assertEqual(self.steps["finalize"]["if"], "always() && steps.install.outcome == 'success'")
        self.assertNotIn("if", self.steps["run"])


class Everything(unittest.TestCase):
    def test_no_expression_becomes_shell_code(self):
        steps = list(load("action.yml")["runs"]["steps"])
        for _, workflow in workflows():
            steps.extend(steps_of(workflow))
        for step in steps:
            self.assertNotIn("${{", step.get("run", ""), step)

    def test_every_action_is_pinned_to_a_commit_and_names_its_version(self):
        pinned = re.compile(r"uses: [\w.-]+/[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$")
        for path, _ in workflows():
            for line in (TREE / path).read_text(encoding="utf-8").splitlines():
                if "uses:" in line and not line.lstrip().startswith("#"):
                    self.assertRegex(line.strip().removeprefix("- "), pinned, path)

    def test_no_workflow_grants_anything_beyond_its_jobs(self):
        for path, workflow in workflows():
            self.assertEqual(workflow["permissions"], {}, path)
            for name, job in workflow["jobs"].items():
                self.assertIn("permissions", job, f"{path}: {name}")

    def test_every_example_gives_the_action_only_inputs_that_it_has(self):
        for path, workflow in workflows():
            for step in steps_of(workflow):
                if "/belay@" in step.get("uses", ""):
                    self.assertLessEqual(set(step["with"]), set(INPUTS), path)

    def test_deployments_of_one_environment_wait_for_each_other_in_the_examples(self):
        groups = set()
        for path, workflow in workflows():
            if path.parts[0] != "examples":
                continue
            for job in workflow["jobs"].values():
                self.assertIs(job["concurrency"]["cancel-in-progress"], False, path)
                if "deployments" not in job["permissions"]:
                    continue  # It deploys nothing: of those that wait, the newest one says it all.
                self.assertEqual(job["concurrency"]["queue"], "max", path)
                self.assertIs(job["environment"]["deployment"], False, path)
                groups.add(job["concurrency"]["group"].split("${{")[0])
        self.assertEqual(groups, {"belay-"})


if __name__ == "__main__":
    unittest.main()
