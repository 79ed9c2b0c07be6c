#include "engine/engine.h"

#include <algorithm>

#include "common/error.h"

namespace apar {
namespace {

// With this many undrained events the engine runs no further step until drain(): this bounds memory when the
// reader stalls.
constexpr size_t kMaxUndrained = 1 << 16;
// The reader shares the CPU cores with the engine: waking it for every token of a model with shorter steps
// costs up to a tenth of the speed. 4 ms are a quarter of a frame at 60 Hz.
constexpr std::chrono::milliseconds kWakeInterval(4);

template <typename... F>
struct Overloaded : F... {
  using F::operator()...;
};
template <typename... F>
Overloaded(F...) -> Overloaded<F...>;

DecoderConfig with_beside(DecoderConfig config, SideThread& beside) {
  config.beside = &beside;
  return config;
}

}  // namespace

Engine::Engine(std::unique_ptr<Model> model, EngineConfig config, std::function<void()> wake)
    : model_(std::move(model)),
      decoder_(*model_, with_beside(std::move(config.decoder), beside_)),
      tokens_with_text_(decoder_.text()),
      max_requests_(config.max_requests),
      wake_(std::move(wake)) {
  if (max_requests_ < 1) throw Error(ErrorCode::invalid_config, "max_requests must be at least 1");
  stats_ = decoder_.stats();
  thread_ = std::thread([this] { run(); });
}

Engine::~Engine() {
  close();
}

void Engine::submit(RequestParams params) {
  decoder_.validate(params);
  SamplerParams& sampling = params.sampling;
  if (DryParams& dry = sampling.dry; dry.on()) dry.breakers = tokens_with_text_.of(dry.sequence_breakers);
  if (!sampling.unpenalised_texts.empty())
    sampling.unpenalised = tokens_with_text_.of(sampling.unpenalised_texts);
  const std::lock_guard lock(mutex_);
  if (closing_) throw Error(ErrorCode::closed, "the engine is closed");
  if (!failure_.empty()) throw Error(ErrorCode::unavailable, "the engine has failed: " + failure_);
  if (tenant_of_.contains(params.id)) {
    throw Error(ErrorCode::duplicate_request, "request " + std::to_string(params.id) + " is running");
  }
  if (!has_room(params.tenant.id)) throw Error(ErrorCode::queue_full, "too many requests are waiting");
  const int32_t id = params.id, tenant = params.tenant.id;
  commands_.emplace_back(std::move(params));
  tenant_of_.emplace(id, tenant);
  ++requests_of_[tenant];
  changed_.notify_all();
}

bool Engine::has_room(int32_t tenant) const {
  const auto all = static_cast<int64_t>(tenant_of_.size());
  if (all < max_requests_) return true;
  const auto own = requests_of_.find(tenant);
  const int64_t tenants = static_cast<int64_t>(requests_of_.size()) + (own == requests_of_.end() ? 1 : 0);
  const int64_t has = own == requests_of_.end() ? 0 : own->second;
  return tenants > 1 && has < std::max<int64_t>(1, max_requests_ / tenants) &&
         all < 2 * int64_t{max_requests_};
}

void Engine::abort(int32_t request_id) {
  push(Abort{request_id});
}
void Engine::abort_branch(int32_t request_id, int32_t branch_id) {
  push(AbortBranch{request_id, branch_id});
}

void Engine::push(Command command) {
  const std::lock_guard lock(mutex_);
  if (closing_) return;
  commands_.push_back(std::move(command));
  changed_.notify_all();
}

std::string Engine::drain(std::vector<Event>& events) {
  events.clear();
  const std::lock_guard lock(mutex_);
  events.swap(events_);
  wake_pending_ = false;
  changed_.notify_all();
  return failure_;
}

DecoderStats Engine::stats() const {
  const std::lock_guard lock(mutex_);
  return stats_;
}

void Engine::close() {
  {
    const std::lock_guard lock(mutex_);
    closing_ = true;
    changed_.notify_all();
  }
  const std::lock_guard join(join_mutex_);
  if (thread_.joinable()) thread_.join();
}

void Engine::run() {
  std::vector<Command> commands;
  std::vector<Event> events;
  for (bool closing = false; !closing;) {
    commands.clear();
    {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [&] {
        const bool work = !commands_.empty() || (!decoder_.idle() && events_.size() < kMaxUndrained);
        return closing_ || work;
      });
      commands.swap(commands_);
      closing = closing_;
    }
    // A new request can make the next step long, so tokens that are ready are delivered before it.
    if (!commands.empty()) wake_reader(true);
    for (Command& command : commands) apply(command, events);
    try {
      if (closing) {
        decoder_.abort_all(FinishReason::abort, events);
      } else if (!decoder_.step(events) && !decoder_.idle()) {
        throw Error(ErrorCode::internal, "there are requests, but the scheduler found nothing to compute");
      }
    } catch (const std::exception& error) {
      fail(error.what(), events);
    }
    publish(events);
  }
}

void Engine::apply(Command& command, std::vector<Event>& events) {
  std::visit(Overloaded{[&](RequestParams& params) {
                          const int32_t id = params.id;
                          try {
                            decoder_.add_request(std::move(params));
                          } catch (const std::exception&) {
                            // Out of memory: submit() has accepted the request, so it must get its finish
                            // event.
                            events.push_back({EventKind::finish, id, kRootBranch,
                                              static_cast<int32_t>(FinishReason::error), 0});
                          }
                        },
                        [&](const Abort& abort) { decoder_.abort(abort.request, events); },
                        [&](const AbortBranch& abort) {
                          decoder_.abort_branch(abort.request, abort.branch, events);
                        }},
             command);
}

void Engine::fail(const char* what, std::vector<Event>& events) {
  decoder_.abort_all(FinishReason::error, events);
  const std::lock_guard lock(mutex_);
  failure_ = what;
}

void Engine::publish(std::vector<Event>& events) {
  bool wake_at_once = decoder_.idle();
  {
    const std::lock_guard lock(mutex_);
    stats_ = decoder_.stats();
    for (const Event& event : events) {
      if (event.kind != EventKind::finish) continue;
      if (const auto found = tenant_of_.find(event.request); found != tenant_of_.end()) {
        const auto count = requests_of_.find(found->second);
        if (--count->second == 0) requests_of_.erase(count);
        tenant_of_.erase(found);
      }
      wake_at_once = true;
    }
    events_.insert(events_.end(), events.begin(), events.end());
  }
  events.clear();
  wake_reader(wake_at_once);
}

// Without `at_once`, wakes only if the last wake-up is kWakeInterval ago; else a later step does.
void Engine::wake_reader(bool at_once) {
  const auto now = std::chrono::steady_clock::now();
  {
    const std::lock_guard lock(mutex_);
    const bool due = at_once || now - woken_ >= kWakeInterval || events_.size() >= kMaxUndrained;
    if (events_.empty() || wake_pending_ || !due) return;
    wake_pending_ = true;
  }
  woken_ = now;
  wake_();
}

}  // namespace apar
