# SPDX-License-Identifier: Apache-2.0
"""Shows that each rule of tidy bites: a good file passes all of them, each small damage breaks the named one."""

import os
import sys
import tempfile
import unittest

import rules
import source_text
import tidy

_HEAD = "// SPDX-License-Identifier: Apache-2.0\n"
_HEADER = (
    _HEAD
    + "#ifndef HAVEN_ENGINE_BASE_GOOD_H_\n#define HAVEN_ENGINE_BASE_GOOD_H_\n\nint Good();\n\n"
    + "#endif  // HAVEN_ENGINE_BASE_GOOD_H_\n"
)
_SOURCE = _HEAD + '#include "engine/base/good.h"\n\nint Good() { return 1; }\n'
_BUILD = '# SPDX-License-Identifier: Apache-2.0\nsrcs = ["good.cc", "good.h"]\n'


def _source(line):
    return _HEAD + "\n" + line + "\n"


class TidyTest(unittest.TestCase):
    def broken(self, files, allowances=()):
        """The names of the rules that a tree of a good library and `files` breaks."""
        tree = {
            "engine/base/good.h": _HEADER,
            "engine/base/good.cc": _SOURCE,
            "engine/base/BUILD.bazel": _BUILD,
            ".clang-format": "BasedOnStyle: Google\nColumnLimit: 100\n",
        }
        tree.update(files)
        # Files of the sample are built unless the sample says otherwise.
        for name in files:
            build = os.path.join(os.path.dirname(name), "BUILD.bazel")
            if name.endswith((".h", ".cc")) and build not in files:
                tree[build] = tree.get(build, _BUILD) + f'more = ["{os.path.basename(name)}"]\n'
        with tempfile.TemporaryDirectory() as root:
            for name, text in tree.items():
                path = os.path.join(root, name)
                os.makedirs(os.path.dirname(path), exist_ok=True)
                with open(path, "w", encoding="utf-8") as file:
                    file.write(text)
            found, _ = tidy.check(root, rules.Allowances(list(allowances)))
        return {rule for rule, places in found.items() if places}

    def assert_breaks(self, rule, name, text):
        self.assertEqual(self.broken({name: text}), {rule}, text)

    def test_good_tree_passes(self):
        self.assertEqual(self.broken({}), set())

    def test_spdx(self):
        self.assert_breaks("spdx", "engine/base/a.cc", "int a;\n")
        self.assert_breaks("spdx", "tests/run", "#!/bin/bash\ntrue\n")
        self.assert_breaks("spdx", "tests/empty.py", "")
        self.assertEqual(self.broken({"tests/run": "#!/bin/sh\n# SPDX-License-Identifier: Apache-2.0\n"}), set())

    def test_include_guard(self):
        self.assert_breaks("include_guard", "engine/base/a.h", _HEADER)
        self.assert_breaks("include_guard", "engine/base/a.h", _HEAD + "int a;\n")

    def test_line_length(self):
        fits = "// " + "x" * 97
        self.assertEqual(self.broken({"engine/base/a.cc": _source(fits)}), set())
        self.assert_breaks("line_length", "engine/base/a.cc", _source(fits + "x"))
        self.assert_breaks("line_length", "haven.bzl", "# SPDX-License-Identifier: Apache-2.0\n#" + "x" * 100 + "\n")

    def test_file_size(self):
        self.assert_breaks("file_size", "docs/a.md", "x\n" * 601)
        self.assertEqual(self.broken({"docs/a.md": "x\n" * 600, "LICENSE": "x\n" * 700}), set())

    def test_function_size(self):
        body = "int Long(int a) {\n" + "  ++a;\n" * 68 + "  return a;\n}\n"
        self.assert_breaks("function_size", "engine/base/a.cc", _source(body.rstrip("\n")))
        shorter = body.replace("  ++a;\n", "", 1).rstrip("\n")
        self.assertEqual(self.broken({"engine/base/a.cc": _source(shorter)}), set())
        namespace = "namespace haven {\n" + "int a(int);\n" * 80 + "}  // namespace haven"
        self.assertEqual(self.broken({"engine/base/a.cc": _source(namespace)}), set())

    def test_whitespace(self):
        self.assert_breaks("whitespace", "docs/a.md", "trailing \n")
        self.assert_breaks("whitespace", "docs/a.md", "no newline")
        self.assert_breaks("whitespace", "engine/base/BUILD.bazel", _BUILD + "\tx = 1\n")

    def test_banned_calls(self):
        for line in (
            "void F() { assert(true); }",
            "void F(char* a) { sprintf(a, a); }",
            "void F(char* a) { strcpy(a, a); }",
            "int F() { return rand(); }",
            "void F() { sleep(1); }",
            "void F() { ::usleep(1); }",
            "void F() { std::this_thread::sleep_for(1); }",
            "void F() { absl::SleepFor(1); }",
            "absl::Mutex m;",
            "void F() { throw 1; }",
            "int F() { return std::stoi(s); }",
            "using namespace std;",
            "void F() { system(a); }",
        ):
            self.assert_breaks("banned_calls", "engine/base/a.cc", _source(line))
            self.assert_breaks("banned_calls", "engine/base/a_test.cc", _source(line))

    def test_mentions_and_relatives_of_banned_calls_pass(self):
        for line in (
            "// assert(x) and sleep(1) are banned, throw too.",
            'const char* a = "sprintf(";',
            'const char* a = R"(rand() // ")";',
            "static_assert(sizeof(int) == 4);",
            "int F(Lab* lab) { return lab->sleep(1); }",
            "int n = 1'000'000;",
        ):
            self.assertEqual(self.broken({"engine/base/a.cc": _source(line)}), set(), line)

    def test_output(self):
        line = 'void F() { std::printf("x"); }'
        self.assert_breaks("output", "engine/base/a.cc", _source(line))
        self.assert_breaks("output", "transport/shm/a.cc", _source("void F() { std::cerr << 1; }"))
        for name in ("engine/cli/a.cc", "bench/a.cc", "engine/base/a_test.cc"):
            self.assertEqual(self.broken({name: _source(line)}), set())
        self.assertEqual(self.broken({"engine/base/a.cc": _source('int main() { std::printf("x"); }')}), set())

    def test_datapath(self):
        for line in (
            'void F() { HAVEN_LOG(kInfo, "c") << 1; }',
            "std::mutex m;",
            "int* F() { return new int; }",
            "void F(V& v) { v.push_back(1); }",
            "std::string s;",
            "std::function<void()> f;",
        ):
            self.assert_breaks("datapath", "engine/base/a_datapath.cc", _source(line))
            self.assertEqual(self.broken({"engine/base/a.cc": _source(line)}), set())

    def test_leftovers(self):
        for word in ("TO" + "DO", "FIX" + "ME", "X" + "XX"):
            self.assert_breaks("leftovers", "docs/a.md", f"{word}: later\n")
        self.assertEqual(self.broken({"docs/a.md": "mktemp dir." + "X" * 8 + "\n"}), set())

    def test_machine_paths(self):
        self.assert_breaks("machine_paths", "docs/a.md", "see /ho" + "me/someone/tree\n")
        self.assert_breaks("machine_paths", "docs/a.md", "https://regi" + "stry.example.org/x\n")
        self.assertEqual(self.broken({"docs/a.md": "$HAVEN/home/x and https://example.org/x\n"}), set())

    def test_layers(self):
        for name, include in (
            ("engine/base/a.cc", "engine/replica/chunk.h"),
            ("engine/replica/a.cc", "engine/codec/codec.h"),
            ("engine/membership/a.cc", "engine/primary/primary.h"),
            ("engine/primary/a.cc", "engine/backup/backup.h"),
            ("engine/primary/a.cc", "engine/control/session.h"),
            ("engine/primary/a.cc", "transport/verbs/verbs.h"),
            ("engine/backup/a.cc", "xen/domain.h"),
            ("engine/control/a.cc", "engine/cli/flags.h"),
            ("engine/control/a.cc", "transport/shm/shm.h"),
            ("transport/shm/a.cc", "transport/verbs/verbs.h"),
            ("xen/a.cc", "transport/shm/shm.h"),
            ("engine/base/a.cc", "tests/sim/world.h"),
        ):
            self.assert_breaks("layers", name, _source(f'#include "{include}"'))

    def test_layers_that_are_allowed(self):
        for name, include in (
            ("engine/primary/a.cc", "transport/fabric.h"),
            ("engine/primary/a.cc", "engine/primary/domain.h"),
            ("engine/control/a.cc", "engine/backup/backup.h"),
            ("engine/cli/a.cc", "xen/domain.h"),
            ("transport/shm/a.cc", "transport/fabric.h"),
            ("engine/primary/a_test.cc", "transport/sim/sim_fabric.h"),
            ("engine/base/a.cc", "absl/status/status.h"),
        ):
            self.assertEqual(self.broken({name: _source(f'#include "{include}"')}), set())

    def test_one_type_per_name(self):
        def header(name, line):
            guard = f"HAVEN_ENGINE_BASE_{name.upper()}_H_"
            return f"{_HEAD}#ifndef {guard}\n#define {guard}\n\n{line}\n\n#endif  // {guard}\n"

        def pair(one, other):
            return self.broken({"engine/base/one.h": header("one", one), "engine/base/two.h": header("two", other)})

        named = "namespace haven {\nstruct Limit {\n  int ms;\n};\n}  // namespace haven"
        self.assertEqual(pair(named, named), {"one_type_per_name"})
        self.assertEqual(pair(named, named.replace("struct", "class")), {"one_type_per_name"})
        self.assertEqual(pair(named, "namespace haven {\nenum class Limit : int { kNone };\n}  // namespace haven"), {"one_type_per_name"})
        self.assertEqual(pair(named, named.replace("struct Limit", "struct Limit final : Base<int>")), {"one_type_per_name"})
        self.assertEqual(pair(named, "namespace haven {\nstruct Limit;\n}  // namespace haven"), set())
        self.assertEqual(pair(named, named.replace("haven", "other")), set())
        unnamed = "namespace haven {\nnamespace {\nstruct Limit {\n  int ms;\n};\n}  // namespace\n}  // namespace haven"
        inner = "namespace haven {\nclass Outer {\n  struct Limit {\n    int ms;\n  };\n};\n}  // namespace haven"
        self.assertEqual(pair(named, unnamed), set())
        self.assertEqual(pair(named, inner), set())

    def test_built(self):
        unbuilt = {"engine/base/a_test.cc": _source("int a;"), "engine/base/BUILD.bazel": _BUILD}
        self.assertEqual(self.broken(unbuilt), {"built"})

    def test_shell_syntax(self):
        script = "#!/bin/bash\n# SPDX-License-Identifier: Apache-2.0\nif true; then\n"
        self.assert_breaks("shell_syntax", "tests/a", script)

    def test_formatting(self):
        self.assert_breaks("formatting", "engine/base/a.cc", _source("int  a;"))

    def test_allowances_cover_one_line_and_must_be_needed(self):
        files = {"engine/base/a.cc": _source("absl::Mutex m;")}
        entry = ("banned_calls", "engine/base/a.cc", r"Mutex m;", "an example")
        self.assertEqual(self.broken(files, [entry]), set())
        self.assertEqual(self.broken({}, [entry]), {"allowances"})

    def test_data_is_not_judged(self):
        self.assertEqual(self.broken({"tests/fuzz/corpus/f/seed": "TO" + "DO \n\t"}), set())

    def test_blanking_keeps_line_numbers(self):
        text = '/* a\nb */ int x; // c\n"d\\"e" R"(f\ng)"\nassert(1)\n'
        code = source_text.code_only(text)
        self.assertEqual(code.count("\n"), text.count("\n"))
        self.assertEqual(source_text.line_of(code, code.index("assert")), 5)


def main(counts_path):
    result = unittest.main(module=__name__, argv=[sys.argv[0]], exit=False, verbosity=1).result
    failed = len(result.failures) + len(result.errors)
    with open(counts_path, "a", encoding="utf-8") as counts:
        counts.write(f"passed {result.testsRun - failed}\nfailed {failed}\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
