# SPDX-License-Identifier: Apache-2.0
"""The rules. Each is a function (tree) -> iterable of (file, line, message); RULES names them in the order of output."""

import os
import re
import subprocess

import layering
import type_names
from source_text import code_only, line_of

LINE_LENGTH_MAX = 100
FILE_LINES_MAX = 600
FUNCTION_LINES_MAX = 70

_CPP = (".h", ".cc")
_SPDX = "SPDX-License-Identifier: Apache-2.0"
_CODE_SUFFIXES = (".h", ".cc", ".bzl", ".bazel", ".py", ".sh", ".pml", ".c")

# Words in pieces, so that this file passes its own test.
_LEFTOVERS = re.compile(r"\b(" + "|".join(["TO" + "DO", "FIX" + "ME", "X" + "XX", "HA" + "CK"]) + r")\b")

# (pattern, what to use instead) for all C++ code.
_BANNED = [
    (r"\bassert\s*\(", "HAVEN_CHECK, which stays on in optimised builds"),
    (r"\bv?sprintf\s*\(", "absl::StrFormat or snprintf"),
    (r"\b(strcpy|strcat|strncpy|strncat|gets|strtok)\s*\(", "std::string or std::memcpy with a checked length"),
    (r"\b(rand|srand|drand48)\s*\(", "haven::Random with a seed"),
    (r"(?<![\w.>])(sleep|usleep|nanosleep)\s*\(", "a wait for the condition itself, with a deadline"),
    (r"\bsleep_(for|until)\s*\(|\babsl::SleepFor\b", "a wait for the condition itself, with a deadline"),
    (r"\babsl::(Mutex|MutexLock|CondVar)\b", "std::mutex: the packaged one is invisible to the thread sanitizer"),
    (r"\bthrow\b(?!\s*\()", "absl::Status: nothing in this tree throws"),
    (r"\bstd::sto(i|l|ll|ul|ull|f|d)\b", "absl::SimpleAtoi, which does not throw"),
    (r"\bstd::regex\b", "a parser: std::regex throws, and recurses on its input"),
    (r"\busing\s+namespace\b", "the qualified name or a using-declaration"),
    (r"\b(system|popen)\s*\(", "posix_spawn or fork and execve, without a shell"),
    (r"#\s*pragma\s+once", "an include guard"),
]

# For production code outside the program's own output.
_BANNED_OUTPUT = (r"\b(?:std::)?(?:printf|fprintf|puts|fputs|putchar)\s*\(|\bstd::(?:cout|cerr|clog)\b", "HAVEN_LOG")
_OUTPUT_FOLDERS = ("engine/cli/", "bench/", "tests/")

# For *_datapath.cc.
_BANNED_DATAPATH = [
    (r"\bHAVEN_LOG\b", "logging"),
    (r"\bstd::(recursive_|shared_|timed_)?mutex\b|\bstd::(lock_guard|unique_lock|scoped_lock)\b", "a lock"),
    (r"\bnew\b|\b(malloc|calloc|realloc|free)\s*\(|\bstd::make_(unique|shared)\b", "allocation"),
    (r"[.>](push_back|emplace_back|resize|reserve)\s*\(", "a container that may allocate"),
    (r"\babsl::Str(Cat|Format|Join|Append)\b|\bstd::string\b|\bstd::to_string\b", "a string"),
    (r"\bstd::function\b", "a callable that may allocate"),
]

_MACHINE_PATH = re.compile(r"(?<![\w.$}/])/(home|Users|work)/\w")
_REGISTRY = re.compile(r"https?://[^/\s\"']*(registry|mirror|proxy|pypi|crates|docker|ghcr|quay|deb\.)")


class Allowances:
    """Exceptions from rules: (rule, file, pattern in the offending line, reason). One that is not needed fails too."""

    def __init__(self, entries):
        self._entries = entries
        self._used = set()

    def covers(self, rule, name, line_text):
        for index, (allowed_rule, allowed_name, pattern, _) in enumerate(self._entries):
            if allowed_rule == rule and allowed_name == name and re.search(pattern, line_text):
                self._used.add(index)
                return True
        return False

    def unused(self):
        return [entry for index, entry in enumerate(self._entries) if index not in self._used]


class Tree:
    """The files of a tree with their texts."""

    def __init__(self, root, texts):
        self.root = root
        self.texts = texts

    def files(self, *suffixes):
        """(name, text) of the files with one of these suffixes; of all without any."""
        return [(name, text) for name, text in self.texts.items() if not suffixes or name.endswith(suffixes)]

    def scripts(self):
        return [(name, text) for name, text in self.texts.items() if text.startswith("#!")]


def spdx(tree):
    """The licence stands in the first line of each source file, after #! if there is one."""
    for name, text in tree.files():
        if not (name.endswith(_CODE_SUFFIXES) or text.startswith("#!") or os.path.basename(name) == "WORKSPACE"):
            continue
        head = text.split("\n")[:2]
        if _SPDX not in head[1 if text.startswith("#!") and len(head) > 1 else 0]:
            yield name, 1, f'the first line must hold "{_SPDX}"'


def include_guard(tree):
    """The guard of a header is its path."""
    for name, text in tree.files(".h"):
        guard = "HAVEN_" + re.sub(r"[^A-Z0-9]", "_", name.upper()) + "_"
        lines = text.rstrip("\n").split("\n")
        if f"#ifndef {guard}" not in lines or f"#define {guard}" not in lines or lines[-1] != f"#endif  // {guard}":
            yield name, 1, f"the include guard must be {guard}, from #ifndef to the comment of #endif"


def line_length(tree):
    """No line is longer than LINE_LENGTH_MAX characters."""
    for name, text in tree.files(".h", ".cc", ".bzl"):
        for number, line in enumerate(text.split("\n"), 1):
            if len(line) > LINE_LENGTH_MAX:
                yield name, number, f"{len(line)} characters; the limit is {LINE_LENGTH_MAX}"


def file_size(tree):
    """No file is too long to be read at once; a BUILD file is a list, looked up and not read."""
    for name, text in tree.files():
        lines = text.count("\n")
        if lines > FILE_LINES_MAX and os.path.basename(name) not in ("LICENSE", "BUILD.bazel"):
            yield name, 1, f"{lines} lines; the limit is {FILE_LINES_MAX}: one idea per file"


def function_size(tree):
    """No function is too long. Relies on clang-format: a definition's first and last line are not indented."""
    for name, text in tree.files(*_CPP):
        if layering.is_test(name):
            continue
        start = None
        for number, line in enumerate(code_only(text).split("\n"), 1):
            if line.startswith("}"):
                if start is not None and number - start + 1 > FUNCTION_LINES_MAX:
                    yield name, start, f"{number - start + 1} lines; the limit for a function is {FUNCTION_LINES_MAX}"
                start = None
            elif re.match(r"(namespace|class|struct|enum|union|extern|#|using|public|private)\b|#", line):
                start = None
            elif re.match(r"[\w:~\[]", line):
                start = number


def whitespace(tree):
    """No trailing blanks, no tabs in C++ and Python, a newline at the end."""
    for name, text in tree.files():
        for number, line in enumerate(text.split("\n"), 1):
            if line != line.rstrip():
                yield name, number, "blanks at the end of the line"
            elif "\t" in line and name.endswith((".h", ".cc", ".py", ".bzl", ".bazel")):
                yield name, number, "a tab"
        if text and not text.endswith("\n"):
            yield name, text.count("\n") + 1, "no newline at the end of the file"


def _search(name, code, pattern, message):
    for match in re.finditer(pattern, code):
        yield name, line_of(code, match.start()), message.format(match.group(0).strip())


def banned_calls(tree):
    """Calls that have a better replacement."""
    for name, text in tree.files(*_CPP):
        code = code_only(text)
        for pattern, instead in _BANNED:
            yield from _search(name, code, pattern, "{} is banned: use " + instead)


def output(tree):
    """Production code writes to the log only; a program's own file speaks to whoever has started it."""
    pattern, instead = _BANNED_OUTPUT
    for name, text in tree.files(*_CPP):
        code = code_only(text)
        is_program = re.search(r"^int main\(", code, re.MULTILINE)
        if not name.startswith(_OUTPUT_FOLDERS) and not layering.is_test(name) and not is_program:
            yield from _search(name, code, pattern, "{} in production code: use " + instead)


def datapath(tree):
    """*_datapath.cc does not allocate, log, lock or build strings."""
    for name, text in tree.files("_datapath.cc"):
        code = code_only(text)
        for pattern, what in _BANNED_DATAPATH:
            yield from _search(name, code, pattern, "{} in a data path file: " + what)


def leftovers(tree):
    """Nothing is left for later."""
    for name, text in tree.files():
        for match in _LEFTOVERS.finditer(text):
            yield name, line_of(text, match.start()), f"{match.group(0)}: do it or file an issue"


def machine_paths(tree):
    """No file names a place that exists on one machine only."""
    for name, text in tree.files():
        for pattern in (_MACHINE_PATH, _REGISTRY):
            for match in pattern.finditer(text):
                yield name, line_of(text, match.start()), f"{match.group(0)} names a particular machine or registry"


def layers(tree):
    """Includes follow the arrows between the folders."""
    for name, text in tree.files(*_CPP):
        for line, message in layering.violations(name, text):
            yield name, line, message


def built(tree):
    """Every source file is named in the BUILD file of its folder: a test that is not built never fails."""
    for name, _ in tree.files(*_CPP):
        folder, base = os.path.split(name)
        build = os.path.join(folder, "BUILD.bazel")
        # Tests and fuzzers may be named by a list of their targets.
        text = tree.texts.get(build, "")
        listed = re.search(r"_(test|fuzz)\.cc$", base) and (
            f'"{base[:-3]}"' in text
            or (base.endswith("_test.cc") and f'"{base[:-8]}"' in text and 'name + "_test.cc"' in text)
        )
        if f'"{base}"' not in text and not listed:
            yield name, 1, f"is not named in {build}"


def one_type_per_name(tree):
    """No two types of the program have one name: linked together, either may be taken for the other, without a word."""
    first = {}
    for name, text in tree.files(*_CPP):
        if name.endswith("_test.cc"):  # A program of its own.
            continue
        for qualified, line in type_names.definitions(text):
            place = first.setdefault(qualified, name)
            if place != name:
                yield name, line, f"{qualified} is also defined in {place}"


def shell_syntax(tree):
    """Shell scripts parse."""
    for name, text in tree.files():
        if not (name.endswith(".sh") or re.match(r"#!/bin/(ba)?sh\b", text)):
            continue
        shell = "sh" if text.startswith("#!/bin/sh") else "bash"
        parsed = subprocess.run([shell, "-n"], input=text, capture_output=True, text=True, check=False)
        if parsed.returncode != 0:
            yield name, 1, parsed.stderr.strip().replace("\n", "; ")


def formatting(tree):
    """C++ files are as clang-format leaves them."""
    names = [name for name, _ in tree.files(*_CPP)]
    if not names:
        return
    check = subprocess.run(
        ["clang-format-14", "--dry-run", "--style=file", *names],
        cwd=tree.root,
        capture_output=True,
        text=True,
        check=False,
    )
    seen = set()
    for match in re.finditer(r"^([^:\n]+):(\d+):\d+: warning: ", check.stderr, re.MULTILINE):
        if match.group(1) not in seen:
            seen.add(match.group(1))
            yield match.group(1), int(match.group(2)), "run clang-format-14 -i on it"
    if check.returncode != 0 and not seen:
        yield names[0], 1, "clang-format-14: " + check.stderr.strip()


RULES = [
    spdx,
    include_guard,
    line_length,
    file_size,
    function_size,
    whitespace,
    banned_calls,
    output,
    datapath,
    leftovers,
    machine_paths,
    layers,
    built,
    one_type_per_name,
    shell_syntax,
    formatting,
]
