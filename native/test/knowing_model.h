#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <random>
#include <vector>

#include "model/model.h"

namespace apar::test {

using Texts = std::vector<std::vector<int32_t>>;

// A model whose draft heads know what it is going to say: the texts of an earlier run, prompts included. The
// right token is among a head's likeliest three, often not the first, so that accepted candidates lie off the
// likeliest path; sometimes it is missing. Without texts the model's own heads draft. By its
// clock all steps take as long, and drafts nothing.
class KnowingModel : public Model {
 public:
  static constexpr int32_t kHeads = 4;

  explicit KnowingModel(std::unique_ptr<Model> model, const Texts& texts = {}, uint32_t seed = 1);

  const ModelConfig& config() const override { return model_->config(); }
  std::string device() const override { return model_->device(); }
  int32_t num_blocks() const override { return model_->num_blocks(); }
  int32_t max_rows() const override { return model_->max_rows(); }
  int32_t max_logit_rows() const override { return model_->max_logit_rows(); }
  bool draws() const override { return model_->draws(); }
  void forward(const StepBatch& batch, std::span<float> logits) override;
  void draw(const StepBatch& batch, std::span<const TokenDraw> draws, std::span<DrawnToken> drawn) override;
  int32_t draft_heads() const override { return next_.empty() ? model_->draft_heads() : kHeads; }
  void draft(std::span<const DraftRow> rows, int32_t top_k, std::span<DraftCandidate> out) override;
  void copy_slots(std::span<const SlotCopy> copies) override;

  std::function<double()> clock() {
    return [this] { return now_; };
  }
  int32_t most_logits() const { return most_logits_; }  // rows of a step
  int64_t copied() const { return copied_; }            // slots
  int64_t drawn() const { return drawn_; }              // steps whose tokens the model drew itself

 private:
  void read(const StepBatch& batch);
  void predict(int32_t right, int32_t top_k, std::span<DraftCandidate> out);

  std::unique_ptr<Model> model_;
  std::map<uint64_t, std::vector<int32_t>> next_;  // by the hash of a text: what follows its next token
  std::vector<int32_t> slots_;                     // the token in each KV slot
  std::vector<uint64_t> contexts_;                 // hashes of the texts of the step's logit rows
  std::mt19937 random_;
  double now_ = 0;
  int32_t most_logits_ = 0;
  int64_t copied_ = 0, drawn_ = 0;
};

}  // namespace apar::test
