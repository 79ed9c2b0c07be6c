"""Runs the data scripts of the APAR reference over conversations, and keeps what they write as golden files.

    python3 make.py PATH_OF_THE_REFERENCE/data            writes conversations.jsonl and golden.json here
    python3 make.py PATH --conversations FILE --out DIR   runs the scripts on other conversations, for comparison

The scripts are run as they are, apart from what they lack: clean_dialogs is undefined (here it does nothing), and
progress bars and language detection, which they import without need, are replaced by modules that do nothing.
"""
import argparse
import contextlib
import hashlib
import io
import itertools
import json
import os
import random
import runpy
import sys
import tempfile
import types
from pathlib import Path

HERE = Path(__file__).resolve().parent
# The reference's names, and the names of the files that it published.
FILES = {
    "parsed.json": "parsed.json",
    "train.json": "train.json",
    "test.json": "apar_testset.json",
    "apar.json": "apar.json",
    "orig.json": "apar_flatten.json",
    "unstructured.json": "unstructured.json",
}


def run_scripts(reference: Path, conversations: bytes, test_share: float) -> dict[str, bytes]:
    import builtins

    builtins.clean_dialogs = lambda dialogs: None
    sys.modules["tqdm"] = types.ModuleType("tqdm")
    sys.modules["tqdm"].tqdm = lambda items, **_: items
    sys.modules["langdetect"] = types.ModuleType("langdetect")
    sys.modules["langdetect"].detect = lambda text: "en"
    before = os.getcwd(), sys.argv
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            for name in ("cleaned_sharegpt.jsonl", "sharegpt.jsonl"):
                Path(name).write_bytes(conversations)
            for script in ("filter_structured.py", "as_apar_format.py", "get_unstructured.py"):
                sys.argv = [script]
                if script == "as_apar_format.py":
                    sys.argv += ["--test_pct", str(test_share)]
                with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                    runpy.run_path(str(reference / script), run_name="__main__")
            return {ours: Path(theirs).read_bytes() for theirs, ours in FILES.items()}
        finally:
            os.chdir(before[0])
            sys.argv = before[1]


def answers() -> list[str]:
    """One answer or more for each rule, and random ones made of pieces that matter to the rules."""
    details = [" draw two buckets at dawn.", " take what the rain has left.", " carry the rest up the hill."]
    titles = ["Well", "Barrel", "Brook"]

    def items(joint="\n", colon=":", start=1, form="{}. {}"):
        lines = [form.format(start + i, t) + colon + d for i, (t, d) in enumerate(zip(titles, details))]
        return joint.join(lines)

    sentence = "A garden wants water above all else. "
    paragraph = sentence + "Shade comes second, and straw between the rows third."
    fixed = [
        items(),
        "Water first:\n\n" + items() + "\n\nThat is enough.",
        "Water first:\n\n" + items("\n\n") + "\n\nThat is enough.",
        "Water first:\n\n" + items("\n\n\n") + "\n\n\nThat is enough.",
        items(colon="："),
        items(start=4),
        items(form="  {}. {}"),
        items(form="{}. **{}"),
        items().replace("\n", "\r\n"),
        items() + "\nIt goes on without a blank line.",
        items() + "\n\n4. Too short: short\n\n5. Last: one more bucket at noon",
        items() + "\n\nThen shade:\n\n" + items(),
        items().replace(details[1], " short"),
        items().replace(details[1], details[0]),
        items().replace(details[1], details[1] + "\n   1. inner item"),
        items().replace(details[1], details[1] + "\n- inner bullet"),
        "1. One: the first detail\n2. Two: the second detail",
        "1. :: a colon as the title\n2.  : a space as the title\n3. \t\x1f: and stranger spaces\n\n",
        "1. A:[SplitMask]\n[SplitMask] is spelled out\n2. B: and once more [SplitMask]\n3. C: here as well\n\n",
        "٣. Arabic digits: are digits too\n٤. Next: and so is this one\n٥. Last: and this one here\n\n",
        "𝟏. Wide digits: are digits as well\n𝟐. 𝒜: this one has a wide title\n𝟑. Last: 𝓁 and a wide detail\n\n",
        "1.\x85Odd: white space of Python\n2.\xa0Next: white space of both\n3. Last: a byte order mark\ufeff\n\n",
        "1.\ufeffNo: a byte order mark is no space\n2. Next: so this is the first\n3. Last: and this the last one\n\n",
        "Weights are 1.5 and 2. 5 kilos: more or less 3. 7 in all: so it seems\n\n",
        "\n\n".join([paragraph] * 3),
        "\n\n".join([paragraph] * 2),
        "  \n" + "\n\n\n".join([paragraph] * 4) + " \x1c\n",
        "\n\n".join([paragraph, "Short.", paragraph, paragraph]),
        "\n\n".join([paragraph, "A single sentence without anything behind it", paragraph]),
        "\n\n".join([paragraph, "Ask Dr. Green about the roots. She knows all about them.", paragraph]),
        "\n\n".join(["水是花园里最重要的东西，一天也不能少，夏天尤其如此。其次是树荫。"] * 3),
        "\n\n".join(["Öl und Wasser sind für den Garten wichtig. Schatten ist es auch, 🌿 und Stroh."] * 3),
        "\n \n".join([paragraph] * 3),
        "Plain text without any structure.",
        "",
        " \n",
        "```js\nf()\n```",
        "costs $5",
        "<b>bold</b>",
        "a < b\nc > d",
        "12 x 34",
        "12X34 and 1 x 2",
        "1 + 22, 33   ×   44",
        "22 ÷",
        'Quotes " and \\ and \x00 and \x7f and \u2028 = é 🌿',
    ]
    for refused in ("```", "$$", "a > b", "a < b", "a = b", "---", "http", "한국어", "ひらがな", "カタカナ", "漢字"):
        fixed.append(items() + f"\n\nAnd {refused}.")
        fixed.append("\n\n".join([paragraph + f" And {refused}."] * 3))
    pieces = ["1. ", "2. ", "3.\n", "10. ", "7.", ":", "：", "\n", "\n\n", " ", "Title", "a detail that is long enough", ". "]
    pieces += ["。", "[SplitMask]", "\r\n", "\x1c", "𝟗. ", "- item: text", "\ufeff", "Mr. ", "x 12 * 34", "$", "<", ">", "é🌿"]
    chance = random.Random(7)
    for _ in range(500):
        weights = [chance.random() ** 3 for _ in pieces]
        fixed.append("".join(chance.choices(pieces, weights, k=chance.randint(1, 40))))
    for _ in range(300):
        count = chance.randint(2, 6)
        lines = []
        for number in range(1, count + 1):
            detail = " ".join(chance.choices(["water", "shade", "straw. It", "1. x", "rows"], k=chance.randint(1, 9)))
            lines.append(f"{number}. Title {number}{chance.choice([':', ':', ':', '：', ' '])} {detail}")
        end = chance.choice(["", "\n", "\n\nThat is all.", "\nNo blank line."])
        fixed.append(chance.choice(["\n", "\n\n", "\n\n\n"]).join(lines) + end)
    return fixed


def conversations() -> bytes:
    plain = "Plain text without any structure."
    lines = []
    for number, answer in enumerate(answers()):
        dialogs = [{"prompt": f"Question {number}, ö?", "response": answer}]
        if number % 5 == 1:
            dialogs.append({"prompt": "And then?", "response": plain})
        if number % 7 == 1:
            dialogs.insert(0, {"prompt": "Before that?", "response": "costs $5" if number % 2 else plain})
        lines.append({"id": f"c{number}", "dialogs": dialogs})
    lines.append({"id": "c3", "dialogs": [{"prompt": "The same id?", "response": "a = b"}]})
    return "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines).encode()


def usable(line: bytes, reference: Path) -> bool:
    """Whether the reference survives a conversation: it stops where an answer spells out its token in a bad place."""
    try:
        # Half of the two is held out, and the other is packed into rows.
        copy = line.replace(b'"id": "', b'"id": "copy-', 1)
        run_scripts(reference, line + copy, 0.5)
        return True
    except AssertionError:
        return False


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("reference", type=lambda path: Path(path).resolve())
    parser.add_argument("--conversations", type=Path)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    if options.conversations:
        files = run_scripts(options.reference, options.conversations.read_bytes(), 0.12)
        options.out.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            (options.out / name).write_bytes(content)
        return
    lines = [line for line in conversations().splitlines(keepends=True) if usable(line, options.reference)]
    (HERE / "conversations.jsonl").write_bytes(b"".join(lines))
    golden = {}
    for share, count in itertools.product((0.12, 0.5), (len(lines), 40)):
        files = run_scripts(options.reference, b"".join(lines[:count]), share)
        golden[f"{share} of {count}"] = {
            name: {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()} for name, content in files.items()
        }
    (HERE / "golden.json").write_text(json.dumps(golden, indent=2) + "\n")


main()
