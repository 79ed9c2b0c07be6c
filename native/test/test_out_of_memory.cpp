// Every allocation that adding a request makes fails once. The request must leave nothing behind.
#include <doctest/doctest.h>

#include <cstdlib>
#include <new>

#include "core/decoder.h"
#include "fake_model.h"

namespace {

int64_t allocations_until_failure = -1;  // -1: none fails

}  // namespace

void* operator new(size_t size) {
  if (allocations_until_failure >= 0 && allocations_until_failure-- == 0) throw std::bad_alloc();
  if (void* memory = std::malloc(size == 0 ? 1 : size)) return memory;
  throw std::bad_alloc();
}
// AddressSanitizer has an operator of its own for this, which does not go with the ones here.
void* operator new(size_t size, const std::nothrow_t&) noexcept {
  return std::malloc(size == 0 ? 1 : size);
}
void operator delete(void* memory) noexcept {
  std::free(memory);
}
void operator delete(void* memory, size_t) noexcept {
  std::free(memory);
}

using namespace apar;

namespace {

constexpr int32_t kFork = 9, kChild = 10, kEos = 11;

RequestParams request(int32_t id, std::vector<int32_t> prompt) {
  RequestParams params;
  params.id = id;
  params.prompt = std::move(prompt);
  params.max_tokens = 60;
  params.max_branches = 8;
  params.max_depth = 2;
  params.tenant.id = id;
  return params;
}

// Returns how many allocations can fail while the request is added.
int add_with_failures(const RequestParams& params) {
  for (int failing = 0;; ++failing) {
    FakeModel model(12, 256, 64, 32);
    Decoder decoder(model, {{kFork, kChild, {kEos}}, 32, 8});
    std::vector<Event> events;
    // A cached prompt that the new one splits, and a request that runs on.
    decoder.submit(request(1, {1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 3}));
    while (!decoder.idle()) decoder.step(events);
    decoder.submit(request(2, {2, 3, 4}));
    decoder.step(events);
    events.clear();

    RequestParams added = params;
    bool failed = false;
    allocations_until_failure = failing;
    try {
      decoder.add_request(std::move(added));
    } catch (const std::bad_alloc&) {
      failed = true;
    }
    const bool all_succeeded = allocations_until_failure >= 0;
    allocations_until_failure = -1;
    REQUIRE(failed == !all_succeeded);
    decoder.check_integrity();
    if (failed) decoder.submit(params);  // its id is free
    while (!decoder.idle()) {
      REQUIRE(decoder.step(events));
      decoder.check_integrity();
    }
    int finished = 0;
    for (const Event& event : events) {
      finished += event.kind == EventKind::finish && event.a != static_cast<int32_t>(FinishReason::error);
    }
    REQUIRE(finished == 2);
    REQUIRE(decoder.stats().free_blocks == 64);
    if (all_succeeded) return failing;
  }
}

}  // namespace

// Every allocation of a step in which no branch ends fails once. All requests end, and the decoder goes on.
TEST_CASE("a step for which memory runs out leaves no blocks behind") {
  for (const int32_t steps : {2, 12, 14}) {
    bool has_failed = true;
    for (int failing = 0; has_failed; ++failing) {
      CAPTURE(steps);
      CAPTURE(failing);
      FakeModel model(12, 256, 64, 32);
      double now = 0;
      DecoderConfig config{{kFork, kChild, {kEos}}, 32, 8};
      config.clock = [&] { return now += 1; };
      Decoder decoder(model, config);
      std::vector<Event> events;
      const auto submit = [&] {
        for (int32_t id = 1; id <= 2; ++id) {
          RequestParams params = request(id, {id, 2, 3, 4, 5, 6, id, 2, 3});
          params.max_branches = 1;
          params.logit_bias = {{kEos, -100.0f}, {id, 100.0f}};  // 1, 1, 1, ...: all candidates are right
          decoder.submit(params);
        }
      };
      submit();
      for (int32_t step = 0; step < steps; ++step) decoder.step(events);
      allocations_until_failure = failing;
      has_failed = false;
      try {
        decoder.step(events);
      } catch (const std::bad_alloc&) {
        has_failed = true;
      }
      allocations_until_failure = -1;
      if (!has_failed) break;
      // As Engine::run() does.
      decoder.abort_all(FinishReason::error, events);
      REQUIRE(decoder.idle());
      decoder.check_integrity();
      REQUIRE(decoder.stats().free_blocks == 64);
      submit();
      while (decoder.step(events)) decoder.check_integrity();
      REQUIRE(decoder.stats().drafted_by_ngrams > 0);
    }
  }
}

TEST_CASE("a new request for which memory runs out is not added, and others go on") {
  CHECK(add_with_failures(request(3, {1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 5})) > 10);
}

TEST_CASE("a restored request for which memory runs out is not added, and others go on") {
  RequestParams params = request(3, {1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 5});
  params.branches = {{0, -1, -1, {4, kFork, 2, 3}, FinishReason::none},
                     {1, 0, 12, {kChild, 5}, FinishReason::none}};
  CHECK(add_with_failures(params) > 20);
}
