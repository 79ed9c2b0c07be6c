// Times the host's part of a CUDA step without a device: scheduling, the check of the batch, the attention
// work list, the upload buffer, and the handling of the sampled tokens. Prints one JSON line per number of
// branches of a prompt of 450 tokens, where the branches fork in turn. None of this work overlaps the device
// (docs/adr/0016).
#include <cstdio>
#include <cstring>
#include <limits>
#include <vector>

#include "bench/clock.h"
#include "core/decoder.h"
#include "model/batch_check.h"
#include "ops/cuda/step/attention_work.h"
#include "ops/cuda/step/step_buffer.h"

using namespace apar;
using bench::now_s;

namespace {

constexpr int32_t kVocab = 32000, kBlocks = 40000, kRows = 1024, kContext = 4096, kPrompt = 450;
constexpr int32_t kBusyItems = 9;  // two blocks on each of 132 multiprocessors, 32 KV heads
constexpr int32_t kFork = 5, kChild = 6, kEnd = 7;

// Does the host work of CudaOps, and returns tokens that fork while `forks` is set.
class HostModel final : public Model {
 public:
  HostModel() {
    config_.vocab_size = kVocab;
    config_.context_tokens = kContext;
  }
  const ModelConfig& config() const override { return config_; }
  std::string device() const override { return "none"; }
  int32_t num_blocks() const override { return kBlocks; }
  int32_t max_rows() const override { return kRows; }
  void forward(const StepBatch&, std::span<float>) override {}
  bool draws() const override { return true; }
  void draw(const StepBatch& batch, std::span<const TokenDraw>, std::span<DrawnToken> drawn) override {
    const double begin = now_s();
    check_batch(batch, drawn.size() * kVocab, {kVocab, kBlocks, kRows, kContext});
    work_.build(batch, 1,
                {.partials = cuda::AttentionWork::max_partials(kRows, kContext), .busy_items = kBusyItems});
    cuda::write_step(batch, work_, words_);
    pinned_.resize(words_.size());
    std::memcpy(pinned_.data(), words_.data(), words_.size() * sizeof(int32_t));
    seconds += now_s() - begin;
    for (DrawnToken& token : drawn) {
      ++drawn_;
      token.token = token.token_if_masked = forks && drawn_ % 3 == 0 ? kFork : 100 + drawn_ % 1000;
    }
  }

  bool forks = true;
  double seconds = 0;  // spent in draw()'s host work

 private:
  ModelConfig config_;
  cuda::AttentionWork work_{cuda::Sharing::by_cost, cuda::attention_bytes(1, 128, KvFormat::bf16)};
  std::vector<int32_t> words_, pinned_;
  int32_t drawn_ = 0;
};

void run(int32_t branches) {
  HostModel model;
  Decoder decoder(model, {{kFork, kChild, {kEnd}}, kRows, 512});
  RequestParams params;
  params.id = 1;
  for (int32_t i = 0; i < kPrompt; ++i) params.prompt.push_back(200 + i);
  params.max_tokens = std::numeric_limits<int32_t>::max();
  params.max_branches = branches;
  params.max_depth = branches;
  decoder.submit(params);
  std::vector<Event> events;
  const auto step = [&] {
    events.clear();
    decoder.step(events);
  };
  while (decoder.stats().running_branches < branches) step();
  model.forks = false;
  for (int32_t i = 0; i < 50; ++i) step();
  constexpr int32_t kSteps = 300;
  model.seconds = 0;
  const double begin = now_s();
  for (int32_t i = 0; i < kSteps; ++i) step();
  const double all = now_s() - begin;
  std::printf("{\"bench\":\"host\",\"branches\":%d,\"step_us\":%.1f,\"work_list_and_upload_us\":%.1f}\n",
              branches, all / kSteps * 1e6, model.seconds / kSteps * 1e6);
}

}  // namespace

int main() {
  for (const int32_t branches : {1, 32, 128, 350}) run(branches);
}
