#include "test/knowing_model.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

namespace apar::test {
namespace {

constexpr uint64_t kNoTokens = 1469598103934665603u;

uint64_t add_to(uint64_t hash, int32_t token) {
  return (hash ^ static_cast<uint64_t>(token + 1)) * 1099511628211u;
}

}  // namespace

KnowingModel::KnowingModel(std::unique_ptr<Model> model, const Texts& texts, uint32_t seed)
    : model_(std::move(model)),
      slots_(static_cast<size_t>(model_->num_blocks()) * kBlockTokens, -1),
      random_(seed) {
  for (const std::vector<int32_t>& text : texts) {
    uint64_t hash = kNoTokens;
    for (size_t i = 0; i < text.size(); ++i) {
      hash = add_to(hash, text[i]);
      const auto begin = text.begin() + static_cast<ptrdiff_t>(std::min(i + 2, text.size()));
      const auto end = text.begin() + static_cast<ptrdiff_t>(std::min(i + 2 + kHeads, text.size()));
      std::vector<int32_t>& next = next_[hash];
      if (next.size() < static_cast<size_t>(end - begin)) next.assign(begin, end);
    }
  }
}

void KnowingModel::forward(const StepBatch& batch, std::span<float> logits) {
  model_->forward(batch, logits);
  read(batch);
}

void KnowingModel::draw(const StepBatch& batch, std::span<const TokenDraw> draws,
                        std::span<DrawnToken> drawn) {
  model_->draw(batch, draws, drawn);
  read(batch);
  ++drawn_;
}

// The texts of the logit rows, read back from the slots that the batch names.
void KnowingModel::read(const StepBatch& batch) {
  now_ += 1;
  most_logits_ = std::max(most_logits_, static_cast<int32_t>(batch.logit_rows.size()));
  contexts_.clear();
  for (size_t row = 0; row < batch.slots.size(); ++row)
    slots_[static_cast<size_t>(batch.slots[row])] = batch.tokens[row];
  for (const SequenceRows& sequence : batch.sequences) {
    uint64_t hash = kNoTokens;
    int32_t row = sequence.first_row + sequence.num_rows - sequence.context_length;  // of the next token
    const auto path = batch.path.subspan(static_cast<size_t>(sequence.path_begin),
                                         static_cast<size_t>(sequence.path_length));
    for (const int32_t index : path) {
      const KvNodeView& node = batch.nodes[static_cast<size_t>(index)];
      for (int32_t i = 0; i < node.num_tokens && row < sequence.first_row + sequence.num_rows; ++i, ++row) {
        const int32_t at = node.first_offset + i;
        const int32_t block = node.blocks[static_cast<size_t>(at / kBlockTokens)];
        hash = add_to(hash, slots_[static_cast<size_t>(block * kBlockTokens + at % kBlockTokens)]);
        if (row >= sequence.first_row && std::ranges::binary_search(batch.logit_rows, row))
          contexts_.push_back(hash);
      }
    }
  }
}

void KnowingModel::draft(std::span<const DraftRow> rows, int32_t top_k, std::span<DraftCandidate> out) {
  if (next_.empty()) return model_->draft(rows, top_k, out);
  const auto width = static_cast<size_t>(top_k);
  for (size_t i = 0; i < rows.size(); ++i) {
    const auto known = next_.find(contexts_.at(static_cast<size_t>(rows[i].logit_row)));
    for (size_t head = 0; head < kHeads; ++head) {
      const bool knows = known != next_.end() && head < known->second.size() && random_() % 10 != 0;
      predict(knows ? known->second[head] : -1, top_k, out.subspan((i * kHeads + head) * width, width));
    }
  }
}

void KnowingModel::predict(int32_t right, int32_t top_k, std::span<DraftCandidate> out) {
  std::vector<int32_t> tokens(static_cast<size_t>(config().vocab_size));
  std::iota(tokens.begin(), tokens.end(), 0);
  std::shuffle(tokens.begin(), tokens.end(), random_);
  const auto rank = static_cast<ptrdiff_t>(random_() % 5 / 2);
  if (right >= 0) std::iter_swap(std::ranges::find(tokens, right), tokens.begin() + rank);
  for (int32_t i = 0; i < top_k; ++i)
    out[static_cast<size_t>(i)] = {tokens[static_cast<size_t>(i)],
                                   std::log(0.4f) - 0.4f * static_cast<float>(i)};
}

void KnowingModel::copy_slots(std::span<const SlotCopy> copies) {
  model_->copy_slots(copies);
  for (const auto [from, to] : copies) slots_[static_cast<size_t>(to)] = slots_[static_cast<size_t>(from)];
  copied_ += static_cast<int64_t>(copies.size());
}

}  // namespace apar::test
