# SPDX-License-Identifier: Apache-2.0
"""The rules of this tree: Bazel's C++ rules with one set of warnings, all of them errors.

System headers (Abseil, GoogleTest, libibverbs, libxenctrl ...) are on the compiler's own path and
exempt by themselves.
"""

_WARNINGS = [
    "-Wall",
    "-Wextra",
    "-Wpedantic",
    "-Wshadow",
    "-Wconversion",
    "-Wnon-virtual-dtor",
    "-Woverloaded-virtual",
    "-Wcast-align",
    "-Wcast-qual",
    "-Wformat=2",
    "-Wimplicit-fallthrough",
    "-Wundef",
    "-Wunused",
    "-Werror",
]

# GCC judges the code. Clang, which only builds the fuzzers, has other opinions under the same
# names.
_COPTS = ["-pthread"] + select({
    "//:fuzz": [],
    "//conditions:default": _WARNINGS,
})
_LINKOPTS = ["-pthread"]

def haven_cc_library(name, copts = [], linkopts = [], **kwargs):
    """A library; a name ending in .h among `srcs` is private to it."""
    native.cc_library(
        name = name,
        copts = _COPTS + copts,
        linkopts = _LINKOPTS + linkopts,
        **kwargs
    )

def haven_cc_binary(name, copts = [], linkopts = [], **kwargs):
    """A program."""
    native.cc_binary(
        name = name,
        copts = _COPTS + copts,
        linkopts = _LINKOPTS + linkopts,
        **kwargs
    )

def haven_cc_test(name, copts = [], linkopts = [], deps = [], size = "small", **kwargs):
    """A GoogleTest test; GoogleTest, GoogleMock and their main are linked by themselves."""
    native.cc_test(
        name = name,
        size = size,
        copts = _COPTS + copts,
        linkopts = _LINKOPTS + linkopts,
        deps = deps + ["//third_party:gtest"] + select({
            "//:tsan": ["//tests/tsan:suppressions"],
            "//conditions:default": [],
        }),
        **kwargs
    )

def haven_cc_benchmark(name, copts = [], linkopts = [], deps = [], tags = [], **kwargs):
    """A Google Benchmark program with its main. `bazel test //...` neither builds nor runs it."""
    native.cc_binary(
        name = name,
        testonly = True,
        copts = _COPTS + copts,
        linkopts = _LINKOPTS + linkopts,
        tags = tags + ["benchmark", "manual"],
        deps = deps + ["//third_party:benchmark"],
        **kwargs
    )

def haven_cc_fuzzer(
        name,
        srcs,
        copts = [],
        deps = [],
        data = [],
        tags = [],
        size = "small",
        **kwargs):
    """A fuzzer: `srcs` defines LLVMFuzzerTestOneInput; corpus/NAME/ beside BUILD holds its seeds.

    In an ordinary configuration it is a test: //tests/fuzz:fuzz_driver runs it over the seeds and
    a fixed number of mutations of them, the same in each run. With --config=fuzz it is linked with
    libFuzzer: as a test it then runs the seeds once, and tests/run starts it for a stretch of time.
    """
    corpus = native.glob(["corpus/" + name + "/**"])
    native.filegroup(
        name = name + "_corpus",
        srcs = corpus,
        testonly = True,
    )
    native.cc_test(
        name = name,
        size = size,
        srcs = srcs,
        # Without seeds the driver fails when it runs; a failure here would also stop the targets of
        # the package that could make them.
        args = ["$(rootpaths :%s_corpus)" % name] if corpus else [],
        copts = _COPTS + copts,
        data = data + [":%s_corpus" % name],
        linkopts = _LINKOPTS + select({
            "//:fuzz": ["-fsanitize=fuzzer"],
            "//conditions:default": [],
        }),
        tags = tags + ["fuzzer"],
        deps = deps + select({
            "//:fuzz": [],
            "//conditions:default": ["//tests/fuzz:fuzz_driver"],
        }),
        **kwargs
    )
