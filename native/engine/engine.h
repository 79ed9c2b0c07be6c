#pragma once

#include <chrono>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <unordered_set>
#include <variant>
#include <vector>

#include "core/decoder.h"

namespace apar {

struct EngineConfig {
  DecoderConfig decoder;
  int32_t max_requests = 0;  // waiting or running
};

// Runs a Decoder on a thread of its own: commands go in, events come out. Any thread may call it.
class Engine {
 public:
  // `wake` is called from the engine's thread when there are events to drain, at most once a millisecond but
  // for a request's end or a new command, and not again before they were drained.
  Engine(std::unique_ptr<Model> model, EngineConfig config, std::function<void()> wake);
  ~Engine();
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  // Throws Error: as Decoder::validate, and duplicate_request, queue_full, closed, or unavailable once the
  // engine has failed.
  void submit(RequestParams params);
  void abort(int32_t request_id);
  void abort_branch(int32_t request_id, int32_t branch_id);
  void stop_branch(int32_t request_id, int32_t branch_id);

  // Moves all events so far to `events`, whose old content goes. Returns why the engine failed, else "".
  std::string drain(std::vector<Event>& events);
  DecoderStats stats() const;
  // Aborts what runs and ends the thread; its last events can still be drained. Harmless when called again.
  void close();

 private:
  struct Abort {
    int32_t request;
  };
  struct AbortBranch {
    int32_t request, branch;
  };
  struct StopBranch {
    int32_t request, branch;
  };
  using Command = std::variant<RequestParams, Abort, AbortBranch, StopBranch>;

  void run();
  void apply(Command& command, std::vector<Event>& events);
  void push(Command command);
  void publish(std::vector<Event>& events);
  void wake_reader(bool now);
  void fail(const char* what, std::vector<Event>& events);

  std::unique_ptr<Model> model_;
  Decoder decoder_;  // the engine thread's alone, but for validate()
  const int32_t max_requests_;
  const std::function<void()> wake_;
  std::chrono::steady_clock::time_point woken_;  // the engine thread's alone

  mutable std::mutex mutex_;  // guards what follows
  std::condition_variable changed_;
  std::vector<Command> commands_;
  std::vector<Event> events_;
  std::unordered_set<int32_t> request_ids_;  // accepted, finish event not yet published
  DecoderStats stats_;
  std::string failure_;
  bool wake_pending_ = false;
  bool closing_ = false;

  std::mutex join_mutex_;
  std::thread thread_;
};

}  // namespace apar
