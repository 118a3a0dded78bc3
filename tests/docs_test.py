"""Proves that the documents speak of what exists: paths, tests, commands, options, inputs, outputs, settings, steps;
and that no files of src/ import each other in a circle. That they make a book: docs/SUMMARY.md has every page once, and
every link works in the book as on GitHub (dist-scripts/book builds it). And that every block of commands says which
test runs it, or why none does.

Runs on a developer's machine and in CI, with python3 and git alone: `python3 tests/docs_test.py`. Reads files only,
about a second. It cannot tell whether a sentence is true, only whether what it names is there; each check has a test of
its own that it notices a lie. Failure: a plain unittest report and exit 1.
"""

import ipaddress
import json
import pathlib
import re
import subprocess
import unittest

TREE = pathlib.Path(__file__).resolve().parents[1]
WIDTH = 120


def read(path):
    return (TREE / path).read_text(encoding="utf-8")


def documents():
    """Every Markdown file of the repository that people write."""
    found = [*TREE.glob("*.md"), *TREE.glob("docs/**/*.md"), *TREE.glob("examples/**/*.md")]
    return sorted(path.relative_to(TREE) for path in found)


# --- what a document holds --------------------------------------------------------------------------------------------


def fences(text):
    """The fenced blocks as (language, lines)."""
    return [(lang, body.splitlines()) for lang, body in re.findall(r"^```(\w*)\n(.*?)^```", text, re.M | re.S)]


def prose(text):
    return re.sub(r"^```\w*\n.*?^```", "", text, flags=re.M | re.S)


def codes(text):
    """Inline code, each on one line."""
    return [" ".join(code.split()) for code in re.findall(r"`([^`]+)`", prose(text))]


def commands(text):
    """Everything that a reader could type: inline code, and the lines of fences without their comments."""
    lines = [re.split(r"\s#\s|\s{2,}#", line)[0] for _, body in fences(text) for line in body]
    return codes(text) + lines


def rows(text, heading):
    """The rows of the table whose first column has this heading, each a list of cells."""
    table = re.search(rf"^\| {re.escape(heading)} \|.*\n\|[ |:-]+\|\n((?:\|.*\n?)+)", text, re.M)
    if not table:
        return []
    return [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in table[1].splitlines()]


def first_codes(text, heading):
    return [code for row in rows(text, heading) for code in re.findall(r"`([^`]+)`", row[0])]


def slug(heading):
    """The anchor that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


# --- what there is ----------------------------------------------------------------------------------------------------


# Each command with its long options; a test of the command line keeps the file current.
CLI = json.loads(read("tests/fixtures/commands.json"))
COMMANDS, VERBS = ({name: set(flags) for name, flags in CLI[kind].items()} for kind in ("commands", "verbs"))
HIDDEN = set(CLI["hidden"])
ANY_OPTION = set().union(*COMMANDS.values(), *VERBS.values(), {"--help", "--version"})
# What the head of a script says that it takes.
SCRIPT_OPTIONS = {option for script in TREE.glob("dist-scripts/*") if script.suffix in ("", ".sh")
                  for option in re.findall(r"^#.*?(--[a-z-]+)", script.read_text(encoding="utf-8"), re.M)}


def keys_of_action(section):
    body = re.search(rf"^{section}:\n((?:[ #].*\n|\n)+)", read("action.yml"), re.M)[1]
    return re.findall(r"^  ([a-z-]+):", body, re.M)


def settings(schema, prefix=""):
    """Every setting of belay.yml with its dots; NAME stands for a name of the user's."""
    found = set()
    children = [(name, child) for name, child in schema.get("properties", {}).items()]
    children += [("NAME", child) for child in schema.get("patternProperties", {}).values()]
    if isinstance(schema.get("additionalProperties"), dict):
        children.append(("NAME", schema["additionalProperties"]))
    for name, child in children:
        found |= {prefix + name} | settings(child, f"{prefix}{name}.")
    for other in [*schema.get("anyOf", []), *schema.get("oneOf", []), schema.get("items")]:
        found |= settings(other, prefix) if isinstance(other, dict) else set()
    return found


FUNCTIONS = {name for folder in ("src", "tests") for path in (TREE / folder).rglob("*.rs")
             for name in re.findall(r"\bfn (\w+)", path.read_text(encoding="utf-8"))}
SETTINGS = settings(json.loads(read("docs/belay.schema.json")))
SECTIONS = {name.split(".")[0] for name in SETTINGS}


# --- what is wrong with a document ------------------------------------------------------------------------------------

OURS = r"(?:src|tests|dist-scripts|docs|examples)/[\w./*-]*"
# Endings of files, which a setting's name never has.
FILES = ("json", "yml", "yaml", "txt", "sh", "gz", "md", "rs", "backup", "log")


def missing_paths(text):
    """Paths of this repository that a document names and that are not there."""
    for code in commands(text):
        for path in re.findall(rf"(?<![\w./-])(?:\./)?({OURS})", code):
            path = path.rstrip(".")
            there = any(TREE.glob(path)) if "*" in path else (TREE / path).exists()
            if not there and not is_made(path):
                yield f"there is no {path}"


def is_made(path):
    """Whether git ignores it: a reader makes it by following the document."""
    return subprocess.run(["git", "-C", TREE, "check-ignore", "--quiet", path], check=False).returncode == 0


def broken_links(document, text):
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(text)):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = ((TREE / document).parent / path).resolve() if path else TREE / document
        if not file.is_file() or not file.is_relative_to(TREE):
            yield f"there is no file {target}"
        elif is_lost_in_the_book(document, file):
            yield f"{target} is a document that docs/SUMMARY.md does not list"
        elif anchor:
            headings = re.findall(r"^#+ (.*)$", re.sub(r"^```.*?^```", "", file.read_text(), flags=re.M | re.S), re.M)
            if anchor not in map(slug, headings):
                yield f"there is no heading {target}"


def wrong_commands(text):
    """Calls of `belay` that the command line would refuse."""
    for code in commands(text):
        for call in re.findall(r"(?:^|[\s(])belay ((?:(?!&&|[|;]).)+)", code):
            words = call.replace("[", " ").replace("]", " ").split()
            known, name = COMMANDS, words[0]
            if name == "agent":
                known, name = VERBS, (words[1:] or ["VERB"])[0]
            if name.startswith("-"):
                flags = ANY_OPTION
            elif name.isupper():
                flags = set().union({"--help"}, *known.values())
            elif name in known:
                flags = known[name] | {"--help"}
            else:
                yield f"there is no command belay {call}"
                continue
            yield from (f"belay {name} has no {w}" for w in words if w.startswith("--") and w not in flags)
    for code in codes(text):
        if re.match(r"--[a-z]", code) and code.split()[0] not in ANY_OPTION | SCRIPT_OPTIONS:
            yield f"no command has {code}"


def wrong_of_action(text):
    """Inputs and outputs that action.yml does not have."""
    for kind, section in (("input", "inputs"), ("output", "outputs")):
        known = keys_of_action(section)
        named = re.findall(rf"\b{kind}s? `([a-z-]+)`", prose(text))
        for listed in re.findall(rf"\b{section} of the action \(([^)]*)\)", prose(text)):
            named += re.findall(r"`([a-z-]+)`", listed)
        named += first_codes(text, kind.capitalize())
        yield from (f"there is no {kind} {name}" for name in named if name not in known)


def wrong_settings(text):
    """Settings that belay.yml does not have: with dots in the prose, or as keys in an example."""
    for code in codes(text):
        if not re.fullmatch(r"[a-z-]+(\.[A-Za-z-]+)+", code) or code.split(".")[-1] in FILES:
            continue
        if code.split(".")[0] in SECTIONS and code not in SETTINGS:
            yield f"there is no setting {code}"
    for lang, lines in fences(text):
        # What a reader puts into belay.yml; other YAML has the language yml.
        if lang == "yaml":
            yield from (f"there is no setting {key}" for key in keys(lines) if key not in SETTINGS)


def keys(lines):
    """The keys of a plain YAML mapping, with dots; names of environments and services become NAME."""
    above = []
    for line in lines:
        key = re.match(r"( *)([\w-]+):", line)
        if not key:
            continue
        above = [(indent, name) for indent, name in above if indent < len(key[1])]
        parent = above[-1][1] if above else ""
        name = "NAME" if parent in ("environments", "services") and len(above) == 1 else key[2]
        above.append((len(key[1]), name))
        yield ".".join(name for _, name in above)


def unknown_variables(text):
    patterns = ("action.yml", "src/**/*.rs", "examples/workflows/*", "tests/**/*.rs")
    places = [path for pattern in patterns for path in TREE.glob(pattern)]
    source = "\n".join(path.read_text(encoding="utf-8") for path in places)
    names = {name for code in commands(text) for name in re.findall(r"\bBELAY_[A-Z0-9_]+\b", code)}
    return [f"nothing reads {name}" for name in sorted(names) if not re.search(rf"\b{name}\b", source)]


SERVERS = r"\b(crates\.io|docs\.rs|pypi\.org|npmjs|docker\.io/|ghcr\.io|quay\.io|gcr\.io|deb\.debian|archive\.ubuntu)"
NETWORKS = [ipaddress.ip_network(n) for n in ("203.0.113.0/24", "127.0.0.0/8", "0.0.0.0/32")]


def real_hosts(text):
    """Servers that exist, and places on the machine of whoever wrote it."""
    for host in re.findall(r"https?://([^/\s:;)\"'`>]+)", text):
        # A name without a dot is one of a network's own; nginx has variables in its place.
        if not re.fullmatch(r"(?:[\w-]+\.)*example\.com|\d+\.\d+\.\d+\.\d+|\$?[\w-]+", host):
            yield f"{host} may be a real server"
    for address in re.findall(r"(?<![\w.])\d{1,3}(?:\.\d{1,3}){3}(?![\w.]*\d)", text):
        if not any(ipaddress.ip_address(address) in network for network in NETWORKS):
            yield f"{address} may be a real host"
    yield from (f"{name} is a real server" for name in re.findall(SERVERS, text))
    for path in re.findall(r"(?<![\w.])/(?:work|tmp/wt|root)/\S*", text):
        yield f"{path} is a place on one machine"


def wide_lines(text):
    return [f"line {n} has {len(line)} columns" for n, line in enumerate(text.splitlines(), 1)
            if len(line) > WIDTH and not line.startswith("|") and "http" not in line and "gh attestation" not in line]


def missing_tests(text):
    """Tests that are named and that are not there. A name of four words and more is taken for a test's."""
    names = [code for code in codes(text) if re.fullmatch(r"[a-z0-9]+(_[a-z0-9]+){3,}", code)]
    yield from (f"there is no test {name}" for name in names if name not in FUNCTIONS)


# --- the book ---------------------------------------------------------------------------------------------------------


def pages(summary):
    """The files that the summary lists, from the root of the repository."""
    found = re.findall(r"^(?: *- )?\[[^\]]+\]\(([^)\s]+)\)$", summary, re.M)
    return [(TREE / "docs" / page).resolve().relative_to(TREE) for page in found]


def is_lost_in_the_book(document, file):
    """Whether a page of the book leads to a document that is no page: the book would have no such address."""
    listed = pages(read("docs/SUMMARY.md"))
    file = file.relative_to(TREE)
    return file.suffix == ".md" and pathlib.Path(document) in listed and file not in listed


def wrong_summary(summary, documents):
    """Pages that are listed twice, or that are not there; documents in docs/ that are not listed."""
    listed = pages(summary)
    yield from (f"{page} is listed twice" for page in sorted({p for p in listed if listed.count(p) > 1}))
    yield from (f"there is no {page}" for page in listed if not (TREE / page).is_file())
    ours = [path for path in documents if path.parts[0] == "docs" and path.name != "SUMMARY.md"]
    yield from (f"{path} is not listed" for path in ours if path not in listed)


# --- blocks of commands -----------------------------------------------------------------------------------------------

SHELL = ("sh", "bash", "console")
# A line of a plain text that is a command after all.
TYPED = r"(?:\$ |\./|(?:belay|cargo|curl|docker|docker-compose|gh|git|python3|ssh|sudo) [a-z-])"


def marked_fences(text):
    """The fenced blocks as (mark, language, lines); the mark is the comment on the line above."""
    found = re.findall(r"^(?:<!-- ([^\n]*) -->\n)?```(\w*)\n(.*?)^```", text, re.M | re.S)
    return [(mark, lang, body.splitlines()) for mark, lang, body in found]


def essential_words(lines):
    """Of each command the program, its subcommand and its long options."""
    whole = re.sub(r"\\\n", " ", "\n".join(re.split(r"\s#\s|\s{2,}#", line)[0] for line in lines))
    for command in re.split(r"\n|&&|;|\|", whole):
        command = re.sub(r"^\s*(?:[A-Z_]+=\S+ +|sudo +(?:-\w+ +\S+ +)?)*", "", command).split()
        if not command or command[0] == "cd":
            continue
        yield command[0].removeprefix("./")
        yield from (word for word in command[1:2] if re.fullmatch(r"[a-z][a-z-]*", word))
        yield from (word.split("=")[0].lstrip("-") for word in command if re.match(r"--[a-z]", word))


def wrong_blocks(document, text):
    """Blocks that nothing runs and that do not say why, or that name a test which does not run them."""
    for mark, lang, lines in marked_fences(text):
        shows_commands = lang in SHELL or any(re.match(TYPED, line) for line in lines)
        # tests/config.rs reads every block of the language yaml as a belay.yml.
        if mark or shows_commands or lang not in ("", "text", "yaml"):
            yield from (f"{problem}: {lines[0]}" for problem in wrong_mark(document, mark, lang, lines))


def wrong_mark(document, mark, lang, lines):
    verb, _, named = re.sub(r"^(run by|taken by|part of|not run:) ", r"\1|", mark).partition("|")
    if verb == "not run:" and named:
        return
    files = [TREE / name for name in named.split(", ")]
    if not named or not all(file.is_file() for file in files):
        yield "a block without the test that runs it, or the reason why none does"
        return
    there = "\n".join(file.read_text(encoding="utf-8") for file in files)
    if verb == "run by":
        yield from (f"{named} does not run {word}" for word in essential_words(lines)
                    if not re.search(rf"(?<![\w-]){re.escape(word)}(?![\w-])", there))
    if verb == "taken by" and not (str(document) in there and f'documented("{lang}")' in there):
        yield f"{named} does not take it"
    if verb == "part of" and "\n".join(lines) not in there:
        yield f"{named} says something else"


def problems(document, text):
    yield from missing_paths(text)
    yield from broken_links(document, text)
    yield from wrong_blocks(document, text)
    for find in (missing_tests, wrong_commands, wrong_of_action, wrong_settings, unknown_variables, real_hosts,
                 wide_lines):
        yield from find(text)


# --- the tests --------------------------------------------------------------------------------------------------------


class TheDocuments(unittest.TestCase):
    maxDiff = None

    def test_they_name_only_what_exists(self):
        found = [f"{path}: {problem}" for path in documents() for problem in problems(path, read(path))]
        self.assertEqual([], found)

    def test_the_book_has_every_page_once(self):
        self.assertEqual([], list(wrong_summary(read("docs/SUMMARY.md"), documents())))

    def test_the_readers_examples_are_read(self):
        """What lets a block of the language yaml go without a mark."""
        self.assertTrue("fn every_example_in_the_documents_is_accepted()" in read("tests/config.rs"))

    def test_the_readme_has_every_command(self):
        shown = {name for code in first_codes(read("docs/reference.md"), "Command") for name in code.split()[1:2]}
        self.assertEqual(set(COMMANDS) - HIDDEN, shown)

    def test_the_reference_has_every_option_of_a_person(self):
        text = read("docs/reference.md")
        everybody = set().union(*(flags for name, flags in COMMANDS.items() if name not in HIDDEN))
        self.assertEqual([], [flag for flag in sorted(everybody) if flag not in text])

    def test_the_reference_has_every_input_and_output(self):
        text = read("docs/reference.md")
        self.assertEqual(sorted(keys_of_action("inputs")), sorted(first_codes(text, "Input")))
        self.assertEqual(sorted(keys_of_action("outputs")), sorted(first_codes(text, "Output")))

    def test_the_reference_has_every_outcome_with_its_exit_code(self):
        source = read("src/model/transaction/outcome.rs")
        exits = {}
        for names, code in re.findall(r"^ +((?:Word::\w+(?: \| )?)+) => (\d+),$", source, re.M):
            exits |= {name: code for name in re.findall(r"Word::(\w+)", names)}
        words = dict(re.findall(r'^ +Word::(\w+) => "([a-z-]+)",$', source, re.M))
        expected = [(exits[name], f"`{word}`") for name, word in words.items()]
        bug = re.search(r"EXIT_BUG: u8 = (\d+);", source)[1]
        shown = [tuple(row[:2]) for row in rows(read("docs/reference.md"), "Exit code")]
        self.assertEqual(expected + [(bug, "")], shown)

    def test_the_table_of_states_is_that_of_the_tests(self):
        states = json.loads(read("tests/fixtures/states.json"))
        shown = rows(read("docs/when-it-goes-wrong.md"), "State")
        self.assertEqual([[s["state"], s["reached"], s["left"]] for s in states], shown)
        self.assertEqual([], [test for s in states for test in s["tests"] if test not in FUNCTIONS])

    def test_the_architecture_has_every_step_in_its_order(self):
        listed = re.search(r"pub const ALL: \[Step; \d+\] = \[(.*?)\];", read("src/model/transaction/step.rs"), re.S)[1]
        steps = re.findall(r"Step::(\w+),", listed)
        shown = [row[0] for row in rows(read("ARCHITECTURE.md"), "Step")]
        self.assertEqual([f"{n} {step}" for n, step in enumerate(steps, 1)], shown)

    def test_the_architecture_has_every_verb(self):
        verbs = re.findall(r'Verb::\w+ => "([a-z-]+)"', read("src/wire/lib.rs"))
        shown = [code.split()[0] for code in first_codes(read("ARCHITECTURE.md"), "Verb")]
        self.assertEqual(sorted(verbs), sorted(shown))
        self.assertEqual(sorted(verbs), sorted(set(VERBS) - {"aside", "engine", "pack", "watch"}))

    def test_the_architecture_has_every_folder_of_the_source(self):
        shown = first_codes(read("ARCHITECTURE.md"), "Folder")
        folders = sorted(f"src/{path.name}/" for path in (TREE / "src").iterdir() if path.is_dir())
        self.assertEqual([], [folder for folder in folders if folder not in shown])


# --- imports ----------------------------------------------------------------------------------------------------------


def use_paths(tree):
    """The paths of one `use` tree, its braces written out: `a::{b, c::d}` is `a::b` and `a::c::d`."""
    head, brace, rest = tree.partition("{")
    if not brace:
        return [re.sub(r"\s+as\s+\w+$", "", tree.strip())]
    found, part, depth = [], "", 0
    for char in rest.rpartition("}")[0] + ",":
        depth += (char == "{") - (char == "}")
        if char == "," and depth == 0:
            found += [head.strip() + path for path in use_paths(part) if path]
            part = ""
        else:
            part += char
    return found


CRATES = {f"belay_{manifest.parent.name}" for manifest in TREE.glob("src/*/Cargo.toml")}


def absolute(module, path):
    """A path as it is written in this module, from its crate on."""
    parts, base = path.split("::"), module.split("::")
    while parts[0] == "super":
        parts, base = parts[1:], base[:-1]
        parts = parts if parts[0] == "super" else base + parts
    if parts[0] == "crate":
        return base[:1] + parts[1:]
    return parts if parts[0] in CRATES else base + [part for part in parts if part != "self"]


def uses(module, text, kind):
    """The paths that a file imports (`use`) or passes on (`pub use`), from their crates on."""
    for tree in re.findall(rf"^{kind} ([^;]*);", text.split("#[cfg(test)]")[0], re.M):
        for path in use_paths(" ".join(tree.split())):
            yield absolute(module, path)


def imports(files):
    """What each of these files takes from which other one. `files`: text by module path, `belay_model::yaml`.

    A name that a folder's own file only passes on (`pub use`) counts as taken from where it is defined.
    """
    passed_on = {m: list(uses(m, text, r"pub(?:\([^)]*\))? use")) for m, text in files.items()}

    def home(parts):
        module, names = list(parts), []
        while module and "::".join(module) not in files:
            names.insert(0, module.pop())
        found = "::".join(module)
        for path in passed_on.get(found, ()) if names else ():
            if path[-1] == names[0] and list(path) != list(parts):
                return home(path)
            whole = "::".join(path[:-1])
            if path[-1] == "*" and re.search(rf"^pub \w+ {names[0]}\b|^    {names[0]} \{{", files[whole], re.M):
                return whole
        return found

    return {m: {home(path) for path in uses(m, text, "use")} - {"", m} - CRATES for m, text in files.items()}


def circles(arrows):
    """The files from which imports lead back to themselves."""

    def reached(start):
        seen, ahead = set(), [start]
        while ahead:
            for target in arrows.get(ahead.pop(), ()):
                if target not in seen:
                    seen.add(target)
                    ahead.append(target)
        return seen

    return sorted(module for module in arrows if module in reached(module))


def modules():
    """Each source file's text by the path of its module."""
    found = {}
    for path in (TREE / "src").rglob("*.rs"):
        parts = path.relative_to(TREE / "src").with_suffix("").parts
        crate = f"belay_{parts[0]}" if len(parts) > 1 else "belay"
        inside = parts[1:] if len(parts) > 1 else parts
        name = "::".join((crate,) + inside[: -1 if inside[-1] in ("mod", "lib", "main") else None])
        found[name] = path.read_text(encoding="utf-8")
    return found


class TheImports(unittest.TestCase):
    def test_they_lead_in_one_direction(self):
        self.assertEqual([], circles(imports(modules())))


LONGEST_FILE = 600


def too_long(files):
    """The files that have more lines than one can keep in mind, their tests not counted."""
    for path, text in files.items():
        code = re.split(r"^#\[cfg\(test\)\]\n(?:#\[.*\n)*(?:pub\S* )?mod ", text, maxsplit=1, flags=re.M)[0]
        if code.count("\n") > LONGEST_FILE:
            yield f"{path} has {code.count(chr(10))} lines"


class TheFiles(unittest.TestCase):
    def test_none_is_too_long_to_be_known(self):
        tests = {path for path in (TREE / "src").rglob("*.rs") if "tests" in path.stem or "tests" in path.parts}
        files = {path.relative_to(TREE): path.read_text(encoding="utf-8")
                 for path in (TREE / "src").rglob("*.rs") if path not in tests}
        self.assertEqual([], list(too_long(files)))


class TheChecks(unittest.TestCase):
    """Each of them notices a lie, and leaves the truth alone."""

    def lies(self, find, *texts):
        for text in texts:
            self.assertTrue(list(find(text)), text)

    def truths(self, find, *texts):
        for text in texts:
            self.assertEqual([], list(find(text)), text)

    def test_paths(self):
        self.lies(missing_paths, "`src/nothing.rs`", "```sh\n./dist-scripts/nothing\n```", "`tests/no*.such`")
        self.truths(missing_paths, "`src/main.rs`", "`./dist-scripts/demo`", "`examples/workflows/*.yml`",
                    "`.belay/bin`", "`examples/ntplatform/app`")

    def test_links(self):
        for lie in ("[x](nothing.md)", "[x](README.md#nothing)", "[x](#nothing)", "[x](docs)", "[x](../x)",
                    "[x](docs/SUMMARY.md)"):
            self.assertTrue(list(broken_links("README.md", lie)), lie)
        self.assertEqual([], list(broken_links("README.md", "[x](#see-it-work) [y](docs/configuration.md)")))

    def test_the_book(self):
        here = [pathlib.Path("docs/limits.md"), pathlib.Path("docs/SUMMARY.md"), pathlib.Path("README.md")]
        for lie in ("", "- [x](limits.md)\n- [y](limits.md)\n", "- [x](limits.md)\n- [y](nothing.md)\n"):
            self.assertTrue(list(wrong_summary(lie, here)), lie)
        self.assertEqual([], list(wrong_summary("[x](../README.md)\n- [y](limits.md)\n", here)))

    def test_names_of_tests(self):
        self.lies(missing_tests, "`this_is_no_test_at_all`")
        self.truths(missing_tests, "`images_of_every_make`", "`proxy_next_upstream`")

    def test_blocks(self):
        shell, workflow = "```bash\ndocker-compose down\n```", "```yml\n    types: [opened]\n```"
        self.lies(lambda text: wrong_blocks("docs/limits.md", text), shell,
                  f"<!-- run by tests/e2e/nothing.rs -->\n{shell}", f"<!-- run by tests/config.rs -->\n{shell}",
                  f"<!-- not run: -->\n{shell}",
                  "```text\ngit push origin v1\n```", workflow, f"<!-- taken by tests/e2e/own_proxy.rs -->\n{workflow}",
                  f"<!-- part of examples/workflows/checklist.yml -->\n{workflow}")
        self.truths(lambda text: wrong_blocks("docs/proxies.md", text), f"<!-- run by tests/e2e/shelf.rs -->\n{shell}",
                    f"<!-- not run: no host -->\n{shell}", "```text\nDeployed v1.1.0\n```",
                    f"<!-- taken by tests/e2e/own_proxy.rs -->\n{workflow}",
                    "<!-- part of examples/workflows/checklist.yml -->\n```yml\n    types: [submitted, dismissed]\n```")
        words = essential_words(["sudo -u x gh auth -q \\", "  --json=1  # why"])
        self.assertEqual(["gh", "auth", "json"], list(words))

    def test_commands(self):
        self.lies(wrong_commands, "`belay destroy`", "`belay status --verify`", "`belay agent dance`", "`--nothing`",
                  "```bash\nbelay backup --dry-run\n```")
        self.truths(wrong_commands, "`belay backups --verify`", "`belay agent follow --from 3`", "`belay rollback [T]`",
                    "```bash\nbelay deploy v1.2.0 --host h   # not --this\n```", "`belay.yml`", "`--json`")

    def test_inputs_and_outputs(self):
        self.lies(wrong_of_action, "the input `nothing`", "the output `nothing`", "inputs of the action (`nothing`)",
                  "| Input | Default |\n| --- | --- |\n| `nothing` | |\n")
        self.truths(wrong_of_action, "the input `known-hosts`", "the outputs `backup`")

    def test_settings(self):
        self.lies(wrong_settings, "`health.nothing`", "```yaml\nnothing: 1\n```", "```yaml\nhealth:\n  nothing: 1\n```",
                  "```yaml\nenvironments:\n  production:\n    nothing: 1\n```")
        self.truths(wrong_settings, "`images.keep`", "`environments.NAME.url`", "`backup.json`",
                    "```yaml\nenvironments:\n  production:\n    root: /opt/x\n```")

    def test_variables(self):
        self.lies(unknown_variables, "`BELAY_NOTHING`")
        self.truths(unknown_variables, "`BELAY_HOST`")

    def test_hosts(self):
        self.lies(real_hosts, "http://198.51.100.7/", "https://github.com/x", "ssh 192.0.2.1", "crates" + ".io",
                  "/wor" + "k/x")
        self.truths(real_hosts, "http://203.0.113.10:8080/api", "https://app.example.com", "127.0.0.1", "v1.2.3")

    def test_circles(self):
        files = {
            "belay_model::a": "pub use self::c::X;",
            "belay_model::a::b": "use super::c::{self, X};\nuse crate::d::Y as Z;",
            "belay_model::a::c": "use crate::{d::{Y, W}, e};",
            "belay_model::d": "#[cfg(test)]\nuse crate::a::b::V;",
            "belay_agent::e": "use belay_model::a::X;",
        }
        self.assertEqual({"belay_model::a::c", "belay_model::d"}, imports(files)["belay_model::a::b"])
        self.assertEqual({"belay_model::a::c"}, imports(files)["belay_agent::e"])
        self.assertEqual([], circles(imports(files)))
        files["belay_model::d"] = "use crate::a::b::V;"
        self.assertEqual(["belay_model::a::b", "belay_model::a::c", "belay_model::d"], circles(imports(files)))

    def test_long_files(self):
        tests = "#[cfg(test)]\nmod tests {\n" + "\n" * 900
        self.assertEqual([], list(too_long({"a": "\n" * 600 + tests})))
        self.assertEqual(["a has 601 lines"], list(too_long({"a": "\n" * 601 + tests})))

    def test_wide_lines(self):
        self.lies(wide_lines, "x" * 121)
        self.truths(wide_lines, "x" * 120, "| " + "x" * 200)


class TheRepository(unittest.TestCase):
    """The files that say how it is kept."""

    def test_each_script_says_what_it_is_for(self):
        listed = subprocess.run([TREE / "dist-scripts/help"], check=True, capture_output=True, text=True).stdout
        purposes = dict(line.split(maxsplit=1) for line in listed.splitlines())
        scripts = {path.name for path in (TREE / "dist-scripts").iterdir()} - {"targets.json"}
        self.assertEqual(scripts, set(purposes))
        for script, purpose in purposes.items():
            self.assertRegex(purpose, r"^[A-Z](?:[^.]|\.\w)*\.$", script)

    def test_the_changelog_has_the_form_that_a_release_reads(self):
        versions, kinds = (re.findall(rf"^{level} (.*)$", read("CHANGELOG.md"), re.M) for level in ("##", "###"))
        self.assertEqual("[Unreleased]", versions[0])
        for version in versions[1:]:
            self.assertRegex(version, r"^\[\d+\.\d+\.\d+\](?: - \d{4}-\d\d-\d\d)?$")
        self.assertLessEqual(set(kinds), {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"})

    def test_the_owners_template_names_paths_that_exist(self):
        paths = re.findall(r"^(?:# )?/(\S+) @", read(".github/CODEOWNERS"), re.M)
        self.assertEqual([], [path for path in paths if not (TREE / path).exists()] if paths else ["no rule"])

    def test_dependencies_are_checked_for_the_targets_that_ship(self):
        checked = re.search(r"^targets = (\[.*\])$", read("deny.toml"), re.M)[1]
        self.assertEqual(sorted(json.loads(read("dist-scripts/targets.json"))["targets"]), sorted(json.loads(checked)))


if __name__ == "__main__":
    unittest.main()
