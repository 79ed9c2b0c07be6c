import json
import os
from unittest import mock

from verification import carried
from verification.libraries import find_library
from verification.part import Failed, Skipped
from verification.parts import build

from .support import InFolder, OnePart


class Toolkit(InFolder):
    def test_nvcc_outside_the_path_is_passed_to_cmake(self):
        with mock.patch.dict(os.environ, {"PATH": str(self.folder), "CUDA_HOME": str(self.folder)}, clear=True):
            nvcc = self.folder / "bin/nvcc"
            nvcc.parent.mkdir()
            nvcc.touch()
            self.assertEqual(build.with_nvcc()["CUDACXX"], str(nvcc))

    def test_a_missing_nvcc_is_reported(self):
        with mock.patch.dict(os.environ, {"PATH": str(self.folder)}, clear=True), \
                mock.patch("verification.parts.build.Path.exists", return_value=False), self.assertRaisesRegex(Failed, "no nvcc"):
            build.with_nvcc()


class Libraries(InFolder):
    def test_a_library_is_found_in_pytorchs_packages_unless_the_environment_names_one(self):
        place = self.folder / "cu13/lib/libcublasLt.so.13"
        place.parent.mkdir(parents=True)
        place.touch()
        package = mock.Mock(submodule_search_locations=[str(self.folder)])
        with mock.patch("importlib.util.find_spec", lambda name: package if name == "nvidia" else None):
            self.assertEqual(find_library("libcublasLt", "APAR_UNSET"), str(place))
            self.assertEqual(find_library("libnccl", "APAR_UNSET"), "")
            with mock.patch.dict(os.environ, {"APAR_SET": "/mine.so"}):
                self.assertEqual(find_library("libcublasLt", "APAR_SET"), "/mine.so")


class Building(OnePart):
    """The stand-in for cmake configures with or without doctest and builds nothing."""

    def cmake(self, doctest: bool, then: str = "exit 0"):
        cache = "DOCTEST_INCLUDE_DIR:PATH=/usr/include" if doctest else "DOCTEST_INCLUDE_DIR:PATH=DOCTEST_INCLUDE_DIR-NOTFOUND"
        self.on_path("cmake", f'echo "$*" >> "{self.folder}/calls"\n'
                     f'case "$1" in -S) echo "{cache}" > "{self.folder}/CMakeCache.txt";; --build) {then};; esac')
        return self.folder / "calls"

    def carry(self, sources: str):
        for name, place in [("CARRIED", "carried"), ("PROGRAMS", "carried/programs"), ("ORIGIN", "carried/origin.json")]:
            patched = mock.patch.object(carried, name, carried.NATIVE / f"build/test-{os.getpid()}" / place)
            patched.start()
            self.addCleanup(patched.stop)
        import shutil

        self.addCleanup(shutil.rmtree, carried.CARRIED.parent, ignore_errors=True)
        carried.PROGRAMS.mkdir(parents=True)
        carried.ORIGIN.write_text(json.dumps({"commit": "abc", "sources": sources}))
        return carried.PROGRAMS / "device_tests"

    def test_without_doctest_the_tests_fail_and_everything_else_is_built(self):
        calls = self.cmake(doctest=False)
        part = self.part("build", "cpu")
        build.run(part)
        self.assertEqual(part.failed, ["tests"])
        self.assertRegex(self.line("tests")["why"], "doctest's header is not installed .*native/gpu/prepare")
        self.assertNotIn("test", calls.read_text().splitlines()[-1].split("--target")[1])
        self.assertEqual(self.line("programs")["folder"], str(self.folder))

    def test_a_compiler_error_is_reported(self):
        self.cmake(True, "echo 'x.cu(7): error: expected a ;'; exit 2")
        with self.assertRaisesRegex(Failed, r"cmake exited with 2: x\.cu\(7\): error"):
            build.run(self.part("build", "cpu"))

    def test_prepared_programs_of_these_sources_are_not_built_again(self):
        calls = self.cmake(True)
        program = self.carry(carried.hash_of_sources())
        program.write_text("#!/bin/sh\n")
        program.chmod(0o755)
        build.run(self.part("build", "cuda"))
        self.assertEqual(self.line("programs")["folder"], str(carried.PROGRAMS))
        self.assertFalse(calls.exists())

    def test_prepared_programs_of_other_sources_are_not_used_and_the_reason_is_reported(self):
        self.carry("other").touch()
        with self.assertRaisesRegex(Skipped, r"built from other sources \(commit abc\)"):
            carried.carried_programs()

    def test_programs_that_this_machine_cannot_load_are_built_here(self):
        self.cmake(True)
        self.on_path("nvcc", "")
        program = self.carry(carried.hash_of_sources())
        program.write_text("#!/bin/sh\necho \"error while loading shared libraries: libx\" >&2; exit 127\n")
        program.chmod(0o755)
        build.run(self.part("build", "cuda"))
        self.assertRegex(self.line("carried programs")["why"], "exited with 127: error while loading")
        self.assertEqual(self.line("programs")["folder"], str(self.folder))
