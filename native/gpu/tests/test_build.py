import os
from unittest import mock

from proving.build import with_nvcc
from proving.libraries import find_library
from proving.report import Failed

from .support import InFolder


class Toolkit(InFolder):
    def test_nvcc_off_the_path_is_named_to_cmake(self):
        with mock.patch.dict(os.environ, {"PATH": str(self.folder), "CUDA_HOME": str(self.folder)}, clear=True):
            nvcc = self.folder / "bin/nvcc"
            nvcc.parent.mkdir()
            nvcc.touch()
            self.assertEqual(with_nvcc()["CUDACXX"], str(nvcc))

    def test_none_at_all_is_said(self):
        with mock.patch.dict(os.environ, {"PATH": str(self.folder)}, clear=True), \
                mock.patch("proving.build.Path.exists", return_value=False), self.assertRaisesRegex(Failed, "no nvcc"):
            with_nvcc()


class Libraries(InFolder):
    def test_in_a_package_of_pytorchs_unless_the_environment_names_one(self):
        place = self.folder / "cu13/lib/libcublasLt.so.13"
        place.parent.mkdir(parents=True)
        place.touch()
        package = mock.Mock(submodule_search_locations=[str(self.folder)])
        with mock.patch("importlib.util.find_spec", lambda name: package if name == "nvidia" else None):
            self.assertEqual(find_library("libcublasLt", "APAR_UNSET"), str(place))
            self.assertEqual(find_library("libnccl", "APAR_UNSET"), "")
            with mock.patch.dict(os.environ, {"APAR_SET": "/mine.so"}):
                self.assertEqual(find_library("libcublasLt", "APAR_SET"), "/mine.so")
