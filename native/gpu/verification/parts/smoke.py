"""The first tests on a device: one product, one attention, one graph. They run before anything is built, with the
programs that native/gpu/prepare built. Without these programs part parity runs them after the build."""

from ..carried import carried_programs
from ..part import Part, Skipped, main
from ..tests_on_device import SMOKE_TEST, run_test

CASE_SECONDS = 5


def run(part: Part) -> None:
    if part.cuda and not part.given_programs:
        part.programs = carried_programs()  # raises Skipped with the reason if there are none
    elif not part.cuda and not (part.programs / "test/cuda" / SMOKE_TEST).exists():
        raise Skipped("nothing is built yet: part parity runs the test")
    run_test(part, SMOKE_TEST, CASE_SECONDS)


if __name__ == "__main__":
    main(run)
