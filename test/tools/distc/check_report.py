"""PAGE DIR steps=A,B: the page is whole HTML without anything from elsewhere, has every rank, and in the timeline of each
step the instructions of the plans.   --hostile IN OUT: a program in which a model and labels are markup."""
import json
import re
import subprocess
import sys
from html.parser import HTMLParser

HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(1)> & \\\" {{js}}"
if sys.argv[1] == "--hostile":
    with open(sys.argv[2], encoding="utf-8") as file:
        text = file.read()
    changed = text.replace('plan.model "uneven-14-2"', f'plan.model "{HOSTILE}"')
    changed = changed.replace('"layers.1.x"', '"layers.1.x</script><!--"')
    assert HOSTILE in changed and "<!--" in changed, text[:500]
    with open(sys.argv[3], "w", encoding="utf-8") as file:
        file.write(changed)
    sys.exit()

VOID = {"meta", "input", "br", "img", "link", "hr"}


class Page(HTMLParser):
    def __init__(self):
        super().__init__()
        self.open, self.ids, self.tags, self.texts, self.data = [], [], [], [], ""

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        names = [name for name, _ in attributes]
        assert len(set(names)) == len(names), attributes
        for name, value in attributes:
            assert not name.startswith("on"), attributes
            assert name not in ("src", "action", "formaction", "srcset", "background"), attributes
            assert name != "href" or value.startswith("#"), attributes
            if name == "id":
                self.ids.append(value)
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open and self.open[-1] == tag, (tag, self.open, self.getpos())
        self.open.pop()

    def handle_data(self, data):
        if self.open and self.open[-1] == "script" and "json" in self.get_starttag_text():
            self.data += data
        elif self.open and self.open[-1] not in ("script", "style"):
            self.texts.append(data)


with open(sys.argv[1], encoding="utf-8") as file:
    raw = file.read()
assert raw.startswith("<!doctype html>") and len(raw) < 4 << 20, len(raw)
page = Page()
page.feed(raw.replace("<wbr>", ""))  # where a name may be broken
page.close()
assert not page.open, page.open
assert len(set(page.ids)) == len(page.ids), page.ids
assert page.tags.count("script") == 2 and page.tags.count("style") == 1 and page.tags.count("title") == 1
assert "img" not in page.tags and "link" not in page.tags and "iframe" not in page.tags
assert not re.search(r"https?://|@import|url\(|fetch\(|XMLHttpRequest|innerHTML|eval\(", raw)
for section in ("mesh", "memory", "timeline", "exchanges", "weights"):
    assert section in page.ids

first = json.loads(subprocess.run(["distc", "inspect", f"{sys.argv[2]}/rank0.plan", "--json"], check=True,
                                  capture_output=True).stdout)
tp, pp = first["mesh"]["tp"], first["mesh"]["pp"]
for rank in range(tp * pp):
    assert f"rank-{rank}" in page.ids and f"rank {rank}" in page.texts, rank
text = "".join(page.texts)
assert first["model"]["name"] in text
for layers in (f"0-{first['model']['layers'] - 1}",):
    assert f"layers.{layers}.q" in text

data = json.loads(page.data)
steps = [name for name in sys.argv[3].removeprefix("steps=").split(",") if name]
assert [step["name"].split()[0] for step in data["steps"]] == steps, [step["name"] for step in data["steps"]]
assert ("canvas" in page.ids) == bool(steps)
for step in data["steps"]:
    assert [track["rank"] // tp for track in step["tracks"]] == list(range(pp))
    for track in step["tracks"]:
        plan = json.loads(subprocess.run(["distc", "inspect", f"{sys.argv[2]}/rank{track['rank']}.plan", "--json"],
                                         check=True, capture_output=True).stdout)
        program = next(p for p in plan["programs"] if p["regime"] == step["name"].split()[0])
        ids = [i["id"] for i in program["instructions"]]
        listed = [i for i in track["instructions"] if i[0] is not None]
        assert [i[0] for i in listed] == ids
        assert [data["ops"][i[1]] for i in listed] == [i["op_type"] for i in program["instructions"]]
        shown = set()
        for queue, events in enumerate(track["queues"]):
            assert len(events) % 4 == 0
            for begin, length, index, batch in zip(*(iter(events),) * 4):
                assert 0 <= begin and 0 <= length and begin + length <= step["length"] + 2 and batch < step["microBatches"]
                if index < len(ids):
                    assert program["instructions"][index]["queue"] == queue
                    shown.add(ids[index])
        whole = len(track["instructions"]) == len(ids)
        assert not whole or shown == set(ids), set(ids) - shown
        # The table below has all ids, whatever the picture draws as one.
        assert step["name"] + ", by layer" in text
