"""What the end-to-end checks share: a model compiled for the target under test on a mesh, run, and compared.

With --only compile a check stops where a device would be needed; with --only run it finds the plan sets that were
compiled, perhaps on another machine, under --plans.
"""
import argparse
import json
import struct
import subprocess
import tempfile
from array import array
from pathlib import Path

# Relative error of logits against f32 arithmetic, of two runs in the target's own types, and of two whose weights may
# have been rounded to different types; the margin between two tokens below which another rounding may choose the other.
BOUNDS = {"cpu": (2e-5, 1e-5, 1e-5, 1e-3), "sm_90": (2e-2, 2e-2, 3e-2, 0.1)}


class Check:
    def __init__(self, description, *positionals):
        parser = argparse.ArgumentParser(description=description)
        parser.add_argument("--target", choices=BOUNDS, default="cpu")
        parser.add_argument("--plans", type=Path, help="where plan sets are put; default: a temporary folder")
        parser.add_argument("--only", choices=("compile", "run"))
        parser.add_argument("--with", dest="flags", default="", help="compile with these flags too")
        for name, many in positionals:
            parser.add_argument(name, nargs="+" if many else None)
        self.options = parser.parse_args()
        self.golden_bound, self.bound, self.rounded_bound, self.margin = BOUNDS[self.options.target]
        self.compiles, self.runs = self.options.only != "run", self.options.only != "compile"
        self._temporary = tempfile.TemporaryDirectory()
        self.scratch = Path(self._temporary.name)
        self.folder = self.options.plans or self.scratch

    def plans(self, name, model, mesh, *flags):
        """The plan set of a model on a mesh "TPxPP"."""
        tp, pp = mesh.split("x")
        name += self.options.flags.replace(" ", "")
        flags = [*flags, *self.options.flags.split()]
        out = self.folder / f"{name}.tp{tp}pp{pp}"
        if self.compiles:
            command = ["distc", "compile", model, "--target", self.options.target, "--tp", tp, "--pp", pp, "-o", out, *flags]
            subprocess.run(list(map(str, command)), check=True, stdout=subprocess.DEVNULL)
        return out

    def bound_of(self, fixture, bound):
        """Some models amplify the rounding to 16 bits: on a GPU, what transformers errs by then, where that is more."""
        return bound if self.options.target == "cpu" else max(bound, rounded_error(fixture))

    def distrun(self, *command):
        """Standard output; the check fails with the tool's error."""
        done = subprocess.run(["distrun", *map(str, command)], capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"exit code {done.returncode}: distrun {' '.join(map(str, command))}\n{done.stderr}"
        return done.stdout

    def logits(self, plans, tokens, *flags):
        out = self.scratch / "logits.safetensors"
        self.distrun("logits", plans, "--tokens", ",".join(map(str, tokens)), "-o", out, *flags)
        return read(out)["logits"]


def read(path):
    """Shapes and values of a safetensors file of F32 and I64."""
    data = Path(path).read_bytes()
    length = struct.unpack("<Q", data[:8])[0]
    tensors = {}
    for name, entry in json.loads(data[8 : 8 + length]).items():
        if name != "__metadata__":
            begin, end = entry["data_offsets"]
            values = array({"F32": "f", "I64": "q"}[entry["dtype"]])
            values.frombytes(data[8 + length + begin : 8 + length + end])
            tensors[name] = (entry["shape"], values)
    return tensors


def rounded_error(fixture):
    """Of transformers in 16 bits against the stored logits; 0 where it was not taken."""
    return float(metadata(Path(fixture) / "golden.safetensors").get("rounded_error", 0))


def metadata(path):
    """The strings in a safetensors file's header."""
    data = Path(path).read_bytes()
    length = struct.unpack("<Q", data[:8])[0]
    return json.loads(data[8 : 8 + length]).get("__metadata__", {})


def relative_error(actual, reference):
    norm = sum(v * v for v in reference)
    assert norm > 0
    return (sum((a - b) ** 2 for a, b in zip(actual, reference, strict=True)) / norm) ** 0.5
