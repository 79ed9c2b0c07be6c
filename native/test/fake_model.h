#pragma once

#include <mutex>
#include <random>
#include <string>
#include <vector>

#include "common/error.h"
#include "core/token_text.h"
#include "model/model.h"

namespace apar {

// A model without arithmetic: the logits of a row are a hash of the tokens that its attention would see, read
// back from the KV slots of its path. A wrong block, a lost token or wrong sharing changes the text.
class FakeModel : public Model {
 public:
  FakeModel(int32_t vocab, int32_t context, int32_t num_blocks, int32_t max_rows)
      : num_blocks_(num_blocks),
        max_rows_(max_rows),
        slots_(static_cast<size_t>(num_blocks) * kBlockTokens, -1) {
    config_.vocab_size = vocab;
    config_.context_tokens = context;
  }

  const ModelConfig& config() const override { return config_; }
  std::string device() const override { return "fake"; }
  int32_t num_blocks() const override { return num_blocks_; }
  int32_t max_rows() const override { return max_rows_; }

  void forward(const StepBatch& batch, std::span<float> logits) override {
    const std::lock_guard hold(gate);
    if (fail_after >= 0 && steps++ >= fail_after) throw Error(ErrorCode::internal, "the device has failed");
    const auto require = [](bool good, const char* what) {
      if (!good) throw Error(ErrorCode::internal, std::string("batch: ") + what);
    };
    require(batch.rows() <= max_rows_, "too many rows");
    for (int32_t row = 0; row < batch.rows(); ++row) slots_[at(batch.slots, row)] = at_(batch.tokens, row);

    contexts.clear();
    size_t wanted = 0;
    int32_t next_row = 0;
    for (const SequenceRows& sequence : batch.sequences) {
      require(sequence.first_row == next_row, "sequences do not cover the rows in order");
      next_row += sequence.num_rows;
      const std::vector<int32_t> context = read(batch, sequence);
      for (int32_t i = 0; i < sequence.num_rows; ++i) {
        const int32_t row = sequence.first_row + i;
        const int32_t seen = sequence.context_length - (sequence.num_rows - 1 - i);
        require(at_(batch.positions, row) == seen - 1, "a position is not the number of tokens before it");
        require(context[static_cast<size_t>(seen - 1)] == at_(batch.tokens, row),
                "a row does not see its own token");
        if (wanted < batch.logit_rows.size() && batch.logit_rows[wanted] == row) {
          const auto vocab = static_cast<size_t>(config_.vocab_size);
          if (keep_contexts) contexts.emplace_back(context.begin(), context.begin() + seen);
          fill(std::span(context).first(static_cast<size_t>(seen)), logits.subspan(wanted++ * vocab, vocab));
        }
      }
    }
    require(next_row == batch.rows(), "sequences do not cover all rows");
    require(wanted == batch.logit_rows.size(), "logit rows are not ascending rows of the batch");
  }

  void copy_slots(std::span<const SlotCopy> copies) override {
    for (const auto [from, to] : copies) slots_[static_cast<size_t>(to)] = slots_[static_cast<size_t>(from)];
  }

  // The logits after `path`. The last token of the vocabulary, EOS in the tests, gets a lower logit.
  static void fill(std::span<const int32_t> path, std::span<float> logits) {
    uint64_t hash = 1469598103934665603u;
    for (const int32_t token : path) hash = (hash ^ static_cast<uint64_t>(token + 1)) * 1099511628211u;
    std::mt19937_64 random(hash);
    for (float& logit : logits) logit = static_cast<float>(random() >> 40) * 0x1.0p-20f;
    logits.back() *= 0.85f;
  }

  // The logits after every prefix of `path` of at least `first` tokens, for serial_mismatch().
  static std::vector<std::vector<float>> logits_after(std::span<const int32_t> path, size_t first,
                                                      int32_t vocab) {
    std::vector<std::vector<float>> all(path.size() - first + 1,
                                        std::vector<float>(static_cast<size_t>(vocab)));
    for (size_t at = first; at <= path.size(); ++at) fill(path.first(at), all[at - first]);
    return all;
  }

  int fail_after = -1;  // forward() throws after this many steps; -1: never
  int steps = 0;
  bool keep_contexts = false;
  std::vector<std::vector<int32_t>> contexts;  // of the last step's logit rows
  std::mutex gate;                             // a test that holds it blocks the next step

 private:
  static size_t at(std::span<const int32_t> values, int32_t i) {
    return static_cast<size_t>(values[static_cast<size_t>(i)]);
  }
  static int32_t at_(std::span<const int32_t> values, int32_t i) { return values[static_cast<size_t>(i)]; }

  std::vector<int32_t> read(const StepBatch& batch, const SequenceRows& sequence) const {
    std::vector<int32_t> context;
    for (int32_t p = 0; p < sequence.path_length; ++p) {
      const KvNodeView& node = batch.nodes[at(batch.path, sequence.path_begin + p)];
      for (int32_t i = 0; i < node.num_tokens; ++i) {
        const int32_t offset = node.first_offset + i;
        const auto block = static_cast<size_t>(node.blocks[static_cast<size_t>(offset / kBlockTokens)]);
        context.push_back(slots_[block * kBlockTokens + static_cast<size_t>(offset % kBlockTokens)]);
      }
    }
    if (static_cast<int32_t>(context.size()) < sequence.context_length) {
      throw Error(ErrorCode::internal, "batch: the path is shorter than the context length");
    }
    return context;
  }

  ModelConfig config_;
  int32_t num_blocks_, max_rows_;
  std::vector<int32_t> slots_;  // [num_blocks * 16] the token in each KV slot
};

// The text of the fake model's tokens: a letter each, and none for the last three, the control tokens.
inline TokenText letters(int32_t vocab) {
  TokenText text;
  for (int32_t token = 0; token < vocab; ++token) {
    text.offsets.push_back(static_cast<uint32_t>(text.bytes.size()));
    if (token < vocab - 3) text.bytes.push_back(static_cast<uint8_t>('a' + token));
  }
  text.offsets.push_back(static_cast<uint32_t>(text.bytes.size()));
  return text;
}

}  // namespace apar
