// How mismatches are reported. On a GPU that is available only for minutes, the report is all that remains of
// a failure.
#include "test/cuda/mismatches.h"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>

using namespace apar::test;

TEST_CASE("right results report nothing") {
  Mismatches found("a product");
  found.compare(0, 0, 1.0, 1.0 + 1e-7, 1e-6);
  found.same(0, 1, 2.0f, 2.0f);
  CHECK(found.check());
  CHECK(found.wrong() == 0);
  CHECK(found.worst() == doctest::Approx(0.1));
}

TEST_CASE("wrong elements are reported by position, tile and part") {
  Mismatches found("a product", 8, 64);
  const std::string parts[] = {"part 1", "part 2"};
  found.compare(9, 3, 5, 1, 2, parts);
  found.compare(1, 65, std::nan(""), 1, 1e9);
  found.compare(17, 19, std::numeric_limits<float>::infinity(), 1, 1e9, std::span(parts).first(1));
  found.compare(2, 2, 1, 1, 0);
  CHECK(found.wrong() == 3);
  CHECK(found.worst() == 2);
  CHECK(found.json() ==
        "{\"mismatch\": {\"what\": \"a product\", \"wrong\": 3, \"of\": 4, \"nan\": 1, "
        "\"worst_over_allowed\": 2, "
        "\"first\": [[9, 3, 5, 1], [1, 65, NaN, 1], [17, 19, Infinity, 1]], "
        "\"by_row_mod_8\": [0, 3, 0, 0, 0, 0, 0, 0], "
        "\"by_column_mod_16\": [0, 1, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], "
        "\"tile\": [8, 64], \"by_tile\": {\"0,1\": 1, \"1,0\": 1, \"2,0\": 1}, "
        "\"by_part\": {\"part 1\": 2, \"part 2\": 1}}}");
}

TEST_CASE("bitwise: -0 differs from 0, a NaN equals itself, and missing elements are wrong") {
  Mismatches found("bits");
  const std::vector<float> got = {0.0f, NAN, 1.0f}, want = {-0.0f, NAN, 1.0f, 2.0f};
  found.same(got, want, 2);
  CHECK(found.wrong() == 2);
}
