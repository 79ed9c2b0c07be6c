import contextlib
import io
import json
import tempfile
import unittest
from pathlib import Path

from proving.report import Report


class InFolder(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        quiet = contextlib.redirect_stdout(io.StringIO())
        quiet.__enter__()
        self.addCleanup(quiet.__exit__, None, None, None)

    def report(self, seconds=600):
        report = Report(self.folder, "cpu", seconds)
        self.addCleanup(report.file.close)
        self.addCleanup(report.log.close)
        return report

    def lines(self, name="prove.jsonl"):
        return [json.loads(text) for text in (self.folder / name).read_text().splitlines()]

    def ends(self):
        """(result, why) of every part."""
        return {line["part"]: (line["result"], line.get("why")) for line in self.lines() if line["case"] == "end"}
