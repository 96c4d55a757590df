#!/usr/bin/env python3
"""Runs the GoogleTest binaries through ctest and the lit tests, and counts both from the reports that they write.

The count goes to <build>/test/summary.txt and to the output as the last line: "N passed, N failed".
"""
import argparse
import json
import os
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree


def run(command):
    print("+", " ".join(command), flush=True)
    return subprocess.run(command, check=False).returncode


def remove(path):
    if os.path.exists(path):
        os.remove(path)
    return path


def unit_tests(args):
    """Counts the tests inside each binary. One that fails without saying which test failed is one failure more."""
    report = remove(os.path.join(args.build, "test", "ctest.xml"))
    details = os.path.join(args.build, "test", "gtest")
    shutil.rmtree(details, ignore_errors=True)
    os.environ["GTEST_OUTPUT"] = f"xml:{details}/"
    code = run([args.ctest, "--test-dir", args.build, "--output-on-failure", "--no-tests=error", f"-j{args.jobs}",
                "--output-junit", report])
    passed = failed = 0
    for binary in ElementTree.parse(report).getroot().iter("testcase"):
        ok = binary.get("status") == "run"
        inside = 0
        detail = os.path.join(details, binary.get("name") + ".xml")
        if os.path.exists(detail):
            for case in ElementTree.parse(detail).getroot().iter("testcase"):
                if case.find("failure") is not None:
                    inside += 1
                elif case.get("result") == "completed":
                    passed += 1
        elif ok:
            passed += 1
        failed += inside if inside or ok else 1
    return code, passed, failed


def lit_tests(args):
    report = remove(os.path.join(args.build, "test", "lit.json"))
    code = run([sys.executable, args.lit, "-sv", "--no-progress-bar", f"-j{args.jobs}", "--output", report,
                os.path.join(args.build, "test")])
    if not os.path.exists(report):  # nothing was found to run
        return code or 1, 0, 0
    with open(report, encoding="utf-8") as file:
        codes = [test["code"] for test in json.load(file)["tests"]]
    passed = sum(code in ("PASS", "FLAKYPASS", "XFAIL") for code in codes)
    failed = sum(code in ("FAIL", "XPASS", "UNRESOLVED", "TIMEOUT") for code in codes)
    return code, passed, failed


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", required=True, help="the build folder")
    parser.add_argument("--ctest", required=True)
    parser.add_argument("--lit", help="without it only the GoogleTest binaries are run")
    parser.add_argument("--jobs", default=str(os.cpu_count() or 1))
    args = parser.parse_args()

    results = [unit_tests(args)] + ([lit_tests(args)] if args.lit else [])
    passed, failed = sum(result[1] for result in results), sum(result[2] for result in results)
    summary = f"{passed} passed, {failed} failed"
    with open(os.path.join(args.build, "test", "summary.txt"), "w", encoding="utf-8") as file:
        file.write(summary + "\n")
    print(summary, flush=True)
    # A suite may fail without a failed test, for instance when it finds none.
    sys.exit(1 if failed or any(result[0] for result in results) else 0)


if __name__ == "__main__":
    main()
