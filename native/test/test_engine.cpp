#include <doctest/doctest.h>

#include <condition_variable>
#include <map>

#include "common/error.h"
#include "engine/engine.h"
#include "fake_model.h"
#include "transcript.h"

using namespace apar;

namespace {

constexpr int32_t kVocab = 12;

// Drains the engine's events on the test's thread after each wake-up.
struct Reader {
  void wake() {
    const std::lock_guard lock(mutex);
    awake = true;
    changed.notify_one();
  }
  // Waits for the next wake-up and applies its events.
  void read(Engine& engine) {
    {
      std::unique_lock lock(mutex);
      changed.wait(lock, [&] { return awake; });
      awake = false;
    }
    apply(engine);
  }
  void apply(Engine& engine) {
    std::vector<Event> events;
    failure = engine.drain(events);
    for (const Event& event : events) REQUIRE(transcripts.at(event.request).apply(event) == "");
  }
  bool all_finished() const {
    for (const auto& [id, transcript] : transcripts) {
      if (transcript.finish == FinishReason::none) return false;
    }
    return true;
  }

  std::mutex mutex;
  std::condition_variable changed;
  bool awake = false;
  std::map<int32_t, Transcript> transcripts;
  std::string failure;
};

RequestParams request(int32_t id, int32_t max_tokens = 100) {
  RequestParams params;
  params.id = id;
  params.prompt = {id % 9, 2, 3};
  params.max_tokens = max_tokens;
  params.max_branches = 8;
  params.max_depth = 3;
  return params;
}

struct Rig {
  explicit Rig(int fail_after = -1, int32_t max_requests = 16) {
    auto owned = std::make_unique<FakeModel>(kVocab, 256, 64, 32);
    model = owned.get();
    model->fail_after = fail_after;
    engine = std::make_unique<Engine>(std::move(owned), EngineConfig{{{9, 10, {11}}, 32, 8}, max_requests},
                                      [this] { reader.wake(); });
  }
  void submit(const RequestParams& params) {
    reader.transcripts.insert_or_assign(params.id, Transcript(params.prompt));
    engine->submit(params);
  }
  std::string refusal(const RequestParams& params) {
    try {
      engine->submit(params);
    } catch (const Error& error) {
      return to_string(error.code());
    }
    return "accepted";
  }

  Reader reader;
  FakeModel* model = nullptr;
  std::unique_ptr<Engine> engine;
};

}  // namespace

TEST_CASE("requests from another thread run until they finish") {
  Rig rig;
  for (int32_t id = 1; id <= 10; ++id) rig.submit(request(id));
  while (!rig.reader.all_finished()) rig.reader.read(*rig.engine);
  CHECK(rig.engine->stats().free_blocks == 64);
  CHECK(rig.engine->stats().running_requests == 0);
}

TEST_CASE("full queue, id in use and closed engine have their own error codes") {
  Rig rig(-1, 2);
  CHECK(rig.refusal(request(0)) == "invalid_request");
  {
    const std::lock_guard hold(rig.model->gate);
    rig.submit(request(1));
    CHECK(rig.refusal(request(1)) == "duplicate_request");
    rig.submit(request(2));
    CHECK(rig.refusal(request(3)) == "queue_full");
  }
  rig.engine->close();
  CHECK(rig.refusal(request(4)) == "closed");
  rig.engine->close();
}

TEST_CASE("a tenant that fills the queue does not keep other tenants out") {
  Rig rig(-1, 4);
  const auto of_tenant = [](int32_t id, int32_t tenant) {
    RequestParams params = request(id);
    params.tenant.id = tenant;
    return params;
  };
  const std::lock_guard hold(rig.model->gate);
  for (int32_t id = 1; id <= 4; ++id) rig.submit(of_tenant(id, 1));
  CHECK(rig.refusal(of_tenant(5, 1)) == "queue_full");
  rig.submit(of_tenant(6, 2));
  rig.submit(of_tenant(7, 2));
  CHECK(rig.refusal(of_tenant(8, 2)) == "queue_full");  // has its half
  rig.submit(of_tenant(9, 3));
  rig.submit(of_tenant(10, 4));
  CHECK(rig.refusal(of_tenant(11, 5)) == "queue_full");  // twice as many in all
}

TEST_CASE("close ends every request with exactly one finish event") {
  Rig rig;
  for (int32_t id = 1; id <= 10; ++id) rig.submit(request(id));
  rig.engine->close();
  rig.reader.apply(*rig.engine);
  CHECK(rig.reader.all_finished());
}

TEST_CASE("abort from another thread") {
  Rig rig;
  rig.submit(request(1, 150));
  rig.submit(request(2, 150));
  rig.engine->abort(1);
  rig.engine->abort(1);
  rig.engine->abort_branch(2, 1);
  rig.engine->abort(12345);
  while (!rig.reader.all_finished()) rig.reader.read(*rig.engine);
  CHECK(rig.engine->stats().free_blocks == 64);
}

TEST_CASE("after a device failure every request gets one finish event, and new requests are refused") {
  Rig rig(3);
  rig.submit(request(1));
  while (!rig.reader.all_finished()) rig.reader.read(*rig.engine);
  CHECK(rig.reader.transcripts.at(1).finish == FinishReason::error);
  CHECK(rig.reader.failure == "the device has failed");
  CHECK(rig.refusal(request(2)) == "unavailable");
}
