// 100,000 random commands and steps on the decoder, with an integrity check after each. A failing run is
// reduced to few commands before it is reported.
#include <doctest/doctest.h>

#include <optional>
#include <random>
#include <sstream>

#include "common/error.h"
#include "core/decoder.h"
#include "fake_model.h"
#include "serial_check.h"

using namespace apar;

namespace {

constexpr int32_t kVocab = 12, kFork = 9, kChild = 10, kEos = 11;
constexpr int32_t kUnlimited = 64;

struct Command {
  enum Kind { step, submit, abort, abort_branch } kind;
  uint32_t seed;
};

struct Settings {
  int32_t blocks, step_tokens, branches;
  bool prefix_cache;
  int32_t tenants;
  bool deadlines;  // policy `deadline`, of tokens and of first tokens
};

struct Totals {
  int64_t forks = 0, preemptions = 0, cached = 0, finished = 0, checked = 0;
};

// Only four different beginnings, so that prompts share cached prefixes; all lengths, so that they diverge
// inside blocks.
std::vector<int32_t> shared_prompt(std::mt19937& random) {
  std::mt19937 family(random() % 4);
  std::vector<int32_t> prompt(1 + random() % 60);
  for (int32_t& token : prompt) token = static_cast<int32_t>(family() % 9);
  for (uint32_t own = random() % 6; own > 0; --own) prompt.push_back(static_cast<int32_t>(random() % 9));
  return prompt;
}

class Run {
 public:
  explicit Run(const Settings& settings)
      : tenants_(settings.tenants),
        deadlines_(settings.deadlines),
        model_(kVocab, 256, settings.blocks, settings.step_tokens),
        decoder_(model_, config_of(settings)) {}
  Run(const Run&) = delete;  // the decoder's clock is here

  // Throws if the decoder breaks a rule.
  void apply(const Command& command) {
    std::mt19937 random(command.seed);
    const auto request = static_cast<int32_t>(random() % 12) + 1;
    switch (command.kind) {
      case Command::step:
        decoder_.step(events_);
        break;
      case Command::submit:
        submit(request, random);
        break;
      case Command::abort:
        decoder_.abort(request, events_);
        break;
      case Command::abort_branch:
        decoder_.abort_branch(request, static_cast<int32_t>(random() % 6), events_);
        break;
    }
    apply_events();
  }

  void finish(Totals& totals) {
    for (int steps = 0; !decoder_.idle(); ++steps) {
      if (steps > 20000 || !decoder_.step(events_)) fail("the decoder does not become idle");
      apply_events();
    }
    const DecoderStats stats = decoder_.stats();
    if (stats.free_blocks != model_.num_blocks()) fail("not all blocks are free at the end");
    totals.forks += stats.forks;
    totals.preemptions += stats.preemptions;
    totals.cached += stats.cached_prompt_tokens;
    totals.finished += finished_;
    totals.checked += checked_;
  }

 private:
  DecoderConfig config_of(const Settings& settings) {
    DecoderConfig config;
    config.tokens = {kFork, kChild, {kEos}};
    config.max_step_tokens = settings.step_tokens;
    config.max_branches = settings.branches;
    config.prefix_cache = settings.prefix_cache;
    config.text = letters(kVocab);
    if (settings.deadlines) {
      config.policy = PolicyKind::deadline;
      config.deadlines = {3, 8};
    }
    // A step begins and ends at times that differ by one.
    config.clock = [this] { return now_ += 0.5; };
    return config;
  }

  static bool is_serial(const RequestParams& params, const Transcript& transcript) {
    const auto logits_after = [](std::span<const int32_t> path, size_t first) {
      return FakeModel::logits_after(path, first, kVocab);
    };
    return serial_mismatch(transcript, params, {kFork, kChild, {kEos}}, logits_after).empty();
  }

  [[noreturn]] static void fail(const std::string& what) { throw Error(ErrorCode::internal, what); }

  void submit(int32_t id, std::mt19937& random) {
    if (live_.contains(id)) return;
    RequestParams params;
    params.id = id;
    params.prompt = shared_prompt(random);
    params.max_tokens = 1 + static_cast<int32_t>(random() % 80);
    params.max_branches = random() % 2 == 0 ? kUnlimited : 1 + static_cast<int32_t>(random() % 8);
    params.max_depth = 1 + static_cast<int32_t>(random() % 3);
    if (random() % 4 == 0) params.stop = {"ab", "cdc"};
    // In some runs all requests have one tenant.
    if (tenants_ > 1) params.tenant.id = static_cast<int32_t>(random() % static_cast<uint32_t>(tenants_));
    params.tenant.weight = static_cast<float>(1 + params.tenant.id);
    params.tenant.priority = params.tenant.id / 2;
    try {
      decoder_.submit(params);
      live_.emplace(id, std::pair{params, Transcript(params.prompt)});
    } catch (const Error& error) {
      if (error.code() != ErrorCode::request_too_large) throw;
    }
  }

  void apply_events() {
    for (const Event& event : events_) {
      auto& [params, transcript] = live_.at(event.request);
      const std::string wrong = transcript.apply(event);
      if (!wrong.empty()) fail(wrong);
      if (event.kind != EventKind::finish) continue;
      // The serial check does not cover stop strings and forks refused by max_branches or the policy.
      const bool checkable = params.stop.empty() && params.max_branches == kUnlimited && !deadlines_;
      if (checkable && !is_serial(params, transcript)) fail("not the text of serial decoding");
      checked_ += checkable;
      live_.erase(event.request);
      ++finished_;
    }
    events_.clear();
    decoder_.check_integrity();
  }

  const int32_t tenants_;
  const bool deadlines_;
  double now_ = 0;
  FakeModel model_;
  Decoder decoder_;
  std::map<int32_t, std::pair<RequestParams, Transcript>> live_;
  std::vector<Event> events_;
  int64_t finished_ = 0, checked_ = 0;
};

std::optional<std::string> run(const Settings& settings, const std::vector<Command>& commands,
                               Totals& totals) {
  try {
    Run run(settings);
    for (const Command& command : commands) run.apply(command);
    run.finish(totals);
    return std::nullopt;
  } catch (const std::exception& error) {
    return error.what();
  }
}

// Removes ranges of commands as long as the run still fails (a simplified ddmin, Zeller and Hildebrandt).
std::vector<Command> shrink(const Settings& settings, std::vector<Command> commands) {
  Totals ignored;
  for (size_t piece = commands.size() / 2; piece > 0; piece /= 2) {
    for (size_t at = 0; at + piece <= commands.size();) {
      std::vector<Command> fewer = commands;
      fewer.erase(fewer.begin() + static_cast<ptrdiff_t>(at),
                  fewer.begin() + static_cast<ptrdiff_t>(at + piece));
      if (run(settings, fewer, ignored)) {
        commands = std::move(fewer);
      } else {
        at += piece;
      }
    }
  }
  return commands;
}

std::vector<Command> random_commands(std::mt19937& random, size_t count) {
  std::vector<Command> commands;
  for (size_t i = 0; i < count; ++i) {
    const uint32_t dice = random() % 100;
    const auto kind = dice < 80   ? Command::step
                      : dice < 92 ? Command::submit
                      : dice < 94 ? Command::abort
                                  : Command::abort_branch;
    commands.push_back({kind, static_cast<uint32_t>(random())});
  }
  return commands;
}

}  // namespace

TEST_CASE("100,000 random commands and steps keep the decoder consistent") {
  Totals totals;
  for (uint32_t seed = 0; seed < 200; ++seed) {
    std::mt19937 random(seed);
    Settings settings;
    settings.branches = 1 + static_cast<int32_t>(random() % 10);
    settings.step_tokens = settings.branches + static_cast<int32_t>(random() % 30);
    settings.blocks = 11 + static_cast<int32_t>(random() % 25);
    settings.prefix_cache = random() % 5 != 0;
    settings.tenants = 1 + static_cast<int32_t>(seed % 4);
    settings.deadlines = random() % 3 == 0;
    const std::vector<Command> commands = random_commands(random, 500);
    if (!run(settings, commands, totals)) continue;
    const std::vector<Command> fewest = shrink(settings, commands);
    std::ostringstream report;
    report << *run(settings, fewest, totals) << "\nseed " << seed << ": Settings{" << settings.blocks << ", "
           << settings.step_tokens << ", " << settings.branches << ", " << settings.prefix_cache << ", "
           << settings.tenants << ", " << settings.deadlines << "}, commands";
    for (const Command& command : fewest) report << " {" << command.kind << ", " << command.seed << "u}";
    FAIL(report.str());
  }
  MESSAGE(totals.finished << " requests (" << totals.checked << " compared with serial decoding), "
                          << totals.forks << " forks, " << totals.preemptions << " preemptions, "
                          << totals.cached << " cached tokens");
  CHECK(totals.checked > 1000);
  CHECK(totals.forks > 1000);
  CHECK(totals.preemptions > 100);
  CHECK(totals.cached > 10000);
}
