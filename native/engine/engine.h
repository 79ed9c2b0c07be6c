#pragma once

#include <chrono>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <unordered_map>
#include <variant>
#include <vector>

#include "common/side_thread.h"
#include "core/decoder.h"
#include "core/tokens_with_text.h"

namespace apar {

struct EngineConfig {
  DecoderConfig decoder;
  // Waiting and running ones together. One tenant cannot keep others out: when there are so many, a tenant
  // with less than its equal part of them may still add some, up to twice as many in all.
  int32_t max_requests = 0;
};

// Runs a Decoder on its own thread, with a command queue in and an event queue out. Any thread may call it.
class Engine {
 public:
  // `wake` is called on the engine's thread when there are events to drain, and not again before drain(): at
  // most once in 4 ms, except that the end of a request, a new command or a full event queue wakes at once.
  // `config.decoder.beside` is the engine's own.
  Engine(std::unique_ptr<Model> model, EngineConfig config, std::function<void()> wake);
  ~Engine();
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  // Throws what Decoder::validate throws, and Error{duplicate_request}, Error{queue_full}, Error{closed}, or
  // Error{unavailable} once the engine has failed.
  void submit(RequestParams params);
  void abort(int32_t request_id);
  void abort_branch(int32_t request_id, int32_t branch_id);

  // Replaces the content of `events` by all queued events. Returns why the engine has failed, or "".
  std::string drain(std::vector<Event>& events);
  DecoderStats stats() const;
  // Aborts all requests and ends the thread; the last events can still be drained. May be called again.
  void close();

 private:
  struct Abort {
    int32_t request;
  };
  struct AbortBranch {
    int32_t request, branch;
  };
  using Command = std::variant<RequestParams, Abort, AbortBranch>;

  bool has_room(int32_t tenant) const;
  void run();
  void apply(Command& command, std::vector<Event>& events);
  void push(Command command);
  void publish(std::vector<Event>& events);
  void wake_reader(bool at_once);
  void fail(const char* what, std::vector<Event>& events);

  std::unique_ptr<Model> model_;
  SideThread beside_;
  Decoder decoder_;  // used by the engine thread only, except validate() and text()
  TokensWithText tokens_with_text_;
  const int32_t max_requests_;
  const std::function<void()> wake_;
  std::chrono::steady_clock::time_point woken_;  // of the last call of wake_; used by the engine thread only

  mutable std::mutex mutex_;  // guards the members from here to closing_
  std::condition_variable changed_;
  std::vector<Command> commands_;
  std::vector<Event> events_;
  std::unordered_map<int32_t, int32_t> tenant_of_;    // [request]: accepted, without a published finish event
  std::unordered_map<int32_t, int32_t> requests_of_;  // [tenant]: how many of these, more than 0
  DecoderStats stats_;
  std::string failure_;
  bool wake_pending_ = false;
  bool closing_ = false;

  std::mutex join_mutex_;
  std::thread thread_;
};

}  // namespace apar
