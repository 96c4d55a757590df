# lit's configuration: `lit build/test`, or one test: `lit build/test --filter NAME`.
import os
import shutil
import sys

import lit.formats

config.name = "distc"
config.test_format = lit.formats.ShTest(execute_external=False)
config.suffixes = [".mlir", ".test"]
config.excludes = ["data", "Inputs"]
config.test_source_root = os.path.join(config.distc_source_dir, "test")
config.test_exec_root = os.path.join(config.distc_build_dir, "test")

# `--param runtime=build-cuda` takes distrun from another build; with `--param target=sm_90`, where it finds a GPU, the
# end-to-end tests run there.
builds = [config.distc_build_dir]
if "runtime" in lit_config.params:
    builds.insert(0, os.path.abspath(lit_config.params["runtime"]))
with open(os.path.join(builds[0], "CMakeCache.txt"), encoding="utf-8") as cache:
    if "DISTC_CUDA:BOOL=ON\n" in cache.read():
        config.available_features.add("cuda")
config.environment["PATH"] = os.pathsep.join(
    [os.path.join(build, "bin") for build in builds] + [config.llvm_tools_dir, config.environment["PATH"]]
)
# What the checks written in Python share; they leave nothing behind in the sources.
config.environment["PYTHONPATH"] = os.path.join(config.test_source_root, "support")
config.environment["PYTHONDONTWRITEBYTECODE"] = "1"
# FileCheck shows what it compared where it fails.
config.environment["FILECHECK_OPTS"] = "--dump-input-filter=annotation"

# Tests of processes that mpirun starts.
if config.distc_mpi and shutil.which("mpirun"):
    config.available_features.add("mpi")

data = os.path.join(config.test_source_root, "data")
config.substitutions += [
    ("%fixtures", os.path.join(data, "fixtures")),
    ("%data", data),
    ("%target", lit_config.params.get("target", "cpu")),
    ("%mutate", os.path.join(config.distc_build_dir, "test", "mutate", "plan-mutate")),
    ("%models", os.path.join(config.distc_source_dir, "models")),
    # `%exits 2 COMMAND`: `not` accepts any code but 0, a usage error is 2 and every other is 1.
    ("%exits", f"{sys.executable} -IS {os.path.join(config.test_source_root, 'exits.py')}"),
]
