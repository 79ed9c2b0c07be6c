#pragma once

#include <doctest/doctest.h>

#include <vector>

#include "core/decoder.h"

namespace apar::test {

// Submits request i with step 3 * i and runs until all have ended, with the decoder's counts checked after
// each step; in fewer than `most_steps`. Returns the events of all requests.
inline std::vector<Event> run_staggered(Decoder& decoder, const std::vector<RequestParams>& requests,
                                        size_t most_steps) {
  std::vector<Event> events;
  size_t submitted = 0;
  for (size_t step = 0; submitted < requests.size() || !decoder.idle(); ++step) {
    for (; submitted < requests.size() && submitted * 3 <= step; ++submitted)
      decoder.submit(requests[submitted]);
    REQUIRE(step < most_steps);
    decoder.step(events);
    decoder.check_integrity();
  }
  return events;
}

}  // namespace apar::test
