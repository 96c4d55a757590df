"""Runs the tools and says what went wrong: an exit code, a message, a signal, time, memory, or files left behind."""
import os
import resource
import subprocess

MEMORY = 400 << 20  # of any tool on the small checkpoints, libraries included


def run(*command, seconds=20, **options):
    """A finished process with its text; a signal, much memory or much time is a failure of the test."""
    command = [str(word) for word in command]
    done = subprocess.run(command, capture_output=True, timeout=seconds, check=False, **options)
    done.out, done.err = (raw.decode("utf-8", "replace") for raw in (done.stdout, done.stderr))
    shown = f"{' '.join(command)[:500]}\n{done.err[-2000:]}"
    assert done.returncode in (0, 1, 2, 130), f"exit code {done.returncode}: {shown}"
    memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss << 10
    assert memory < MEMORY, f"{memory >> 20} MiB: {shown}"
    return done


def succeeds(*command, **options):
    done = run(*command, **options)
    assert done.returncode == 0, f"exit code {done.returncode}: {' '.join(map(str, command))}\n{done.err}"
    return done


def listing(folder):
    """Every file under a folder with its size and time, to see that nothing came, went or changed."""
    found = {}
    for root, folders, files in os.walk(folder):
        for name in folders + files:
            path = os.path.join(root, name)
            info = os.stat(path)
            found[path] = (info.st_size if name in files else 0, info.st_mtime_ns if name in files else 0)
    return found


def refused(message, *command, code=1, within=None, places=(), tool=None, **options):
    """The command must end with `code` and print nothing but `TOOL: error: MESSAGE`, where MESSAGE is the whole text
    (or, ending with «…», its beginning). The folders in `places` become <0>, <1> … in what it printed; `within` is
    where nothing may have changed."""
    before = listing(within) if within else None
    done = run(*command, **options)
    text = done.err.strip()
    for number, place in enumerate(places):
        text = text.replace(str(place), f"<{number}>")
    expected = f"{tool or os.path.basename(str(command[0]))}: error: {message}"
    shown = f"{' '.join(map(str, command))[:500]}\nexpected {code}: {expected}\nactual   {done.returncode}: {text}"
    assert done.returncode == code, shown
    assert text.startswith(expected[:-1]) if message.endswith("…") else text == expected, shown
    assert not done.out, f"{shown}\nstdout: {done.out[:500]}"
    if within:
        after = listing(within)
        assert after == before, f"{shown}\nfiles changed: {set(after.items()) ^ set(before.items())}"
