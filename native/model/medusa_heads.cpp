#include "model/medusa_heads.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <string>

#include "model/mapped_file.h"

namespace apar {
namespace {

// Rows of zeros behind the stored ones: the logits of tokens that the heads do not know, which top_tokens()
// leaves out.
StoredMatrix with_rows(StoredMatrix stored, int64_t rows) {
  const Matrix& matrix = stored.matrix;
  if (matrix.rows == rows) return stored;
  const auto bytes = [&](int64_t count) {
    return static_cast<size_t>(stored_bytes(matrix.dtype, count * matrix.cols));
  };
  auto copy = std::make_unique<std::byte[]>(bytes(rows));
  std::memcpy(copy.get(), matrix.data, bytes(matrix.rows));
  StoredMatrix padded;
  padded.matrix = {copy.get(), matrix.dtype, rows, matrix.cols};
  padded.copy = std::move(copy);
  return padded;
}

}  // namespace

MedusaHeads::MedusaHeads(const MedusaSource& source, const Loaded& loaded)
    : config_(source.config.medusa),
      hidden_size_(source.config.hidden_size),
      pass_rows_(rows_per_head(config_, source.max_rows)),
      ops_(source.ops),
      embedding_(source.embedding) {
  if (config_.num_heads == 0) return;
  const std::vector<LinearLayer> layers = medusa_layers(source.config);
  const std::vector<size_t> shared = shared_weights(layers, source.table);
  std::vector<Linear> placed;
  const auto next = [&]() -> const LinearLayer& {
    const size_t index = placed.size();
    const LinearLayer& layer = layers[index];
    if (shared[index] < index) {
      placed.push_back(placed[shared[index]]);
      return layer;
    }
    placed.push_back(place(source, layer, loaded));
    return layer;
  };
  const auto allocate = [&](uint64_t count) { return ops_.allocate(count, Axis::whole); };
  const MedusaBuffers buffers = medusa_buffers(source.config, source.max_rows);
  picked_ = allocate(buffers.picked);
  inputs_ = allocate(buffers.inputs);
  if (config_.reads_next_token) {
    next();
    next_token_ = placed.back();
  }
  for (int32_t index = 0; index < config_.num_heads; ++index) {
    Head& head = heads_.emplace_back();
    for (int32_t block = 0; block < config_.num_layers; ++block) {
      const std::string& bias = next().bias;
      const Matrix vector = ops_.place(source.weights.vector(bias, hidden_size_), Axis::whole);
      head.blocks.push_back({placed.back(), static_cast<const float*>(vector.data)});
    }
    if (!config_.shares_lm_head) next();
    projections_.push_back(config_.shares_lm_head ? source.lm_head : placed.back());
    head.residual = allocate(buffers.residual);
    head.block = allocate(buffers.block);
  }
  const auto rows = static_cast<size_t>(pass_rows_) * heads_.size();
  top_.resize(rows * kMaxDraftTokens);
  log_sums_.resize(rows);
}

Linear MedusaHeads::place(const MedusaSource& source, const LinearLayer& layer, const Loaded& loaded) {
  const int64_t rows = layer.axes.outputs == Axis::vocabulary ? config_.vocab_size : layer.rows;
  const auto mapped = source.weights.mapped(layer.tensor, rows, layer.cols);
  StoredMatrix stored = with_rows(
      source.weights.stored(layer.tensor, rows, layer.cols, decoded_dtype(source.format)), layer.rows);
  const Linear linear = ops_.place_linear(stored.matrix, source.format, layer.axes);
  // Ranks on the host read f32 in place, and `linear` is then a handle of theirs.
  if (linear.data == stored.matrix.data || source.format == WeightFormat::f32)
    source.weights.keep(std::move(stored));
  else
    release_pages(mapped);
  loaded(mapped.size());
  return linear;
}

void MedusaHeads::draft(const float* hidden, std::span<const DraftRow> rows, int32_t top_k,
                        std::span<DraftCandidate> out) {
  const size_t heads = heads_.size(), k = static_cast<size_t>(top_k);
  while (!rows.empty()) {
    const auto mine = rows.first(std::min(rows.size(), static_cast<size_t>(pass_rows_)));
    run_blocks(hidden, mine);
    const std::span top = std::span(top_).first(heads * mine.size() * k);
    const std::span log_sums = std::span(log_sums_).first(heads * mine.size());
    ops_.top_tokens(inputs_, static_cast<int32_t>(mine.size()), projections_, config_.vocab_size, top_k, top,
                    log_sums);
    for (size_t row = 0; row < mine.size(); ++row) {
      for (size_t head = 0; head < heads; ++head) {
        const size_t index = head * mine.size() + row;
        for (size_t i = 0; i < k; ++i) {
          const auto [token, logit] = top[index * k + i];
          const bool known = token >= 0 && std::isfinite(log_sums[index]);
          out[(row * heads + head) * k + i] =
              known ? DraftCandidate{token, logit - log_sums[index]}
                    : DraftCandidate{-1, -std::numeric_limits<float>::infinity()};
        }
      }
    }
    rows = rows.subspan(mine.size());
    out = out.subspan(mine.size() * heads * k);
  }
}

// Leaves the inputs of head h's projection in the rows from h * rows on of inputs_.
void MedusaHeads::run_blocks(const float* hidden, std::span<const DraftRow> rows) {
  const auto count = static_cast<int32_t>(rows.size());
  picks_.clear();
  for (const DraftRow& row : rows) picks_.push_back(row.logit_row);
  ops_.pick_rows(hidden, picks_, hidden_size_, picked_);
  if (next_token_.data != nullptr) add_next_tokens(rows);
  if (config_.num_layers == 0) {
    picks_.clear();
    for (int32_t row = 0; row < config_.num_heads * count; ++row) picks_.push_back(row % count);
    return ops_.pick_rows(picked_, picks_, hidden_size_, inputs_);
  }
  multiply_first(count);
  for (int32_t index = 0; index < config_.num_heads; ++index) {
    const Head& head = heads_[static_cast<size_t>(index)];
    const float* x = picked_;
    for (size_t block = 0; block < head.blocks.size(); ++block) {
      if (block > 0) {
        const Projection projection = {head.blocks[block].w, head.block, head.blocks[block].bias};
        ops_.matmul(x, count, {&projection, 1});
      }
      const bool last = block + 1 == head.blocks.size();
      ops_.add_silu(x, head.block, count, hidden_size_, last ? inputs_ : head.residual,
                    last ? index * count : 0);
      x = head.residual;
    }
  }
}

// picked_ += W * embedding of each row's token. What comes later overwrites the two buffers used here.
void MedusaHeads::add_next_tokens(std::span<const DraftRow> rows) {
  const auto count = static_cast<int32_t>(rows.size());
  picks_.clear();
  for (const DraftRow& row : rows) picks_.push_back(row.token);
  float *const embedded = inputs_, *const product = heads_.front().block;
  ops_.pick_embeddings(embedding_, picks_, embedded);
  const Projection projection = {next_token_, product};
  ops_.matmul(embedded, count, {&projection, 1});
  ops_.add(picked_, product, count, hidden_size_, picked_);
}

// The first blocks of all heads have the same input.
void MedusaHeads::multiply_first(int32_t rows) {
  std::vector<Projection> projections;
  for (const Head& head : heads_)
    projections.push_back({head.blocks.front().w, head.block, head.blocks.front().bias});
  for (std::span<const Projection> left = projections; !left.empty();) {
    const auto some = left.first(std::min(left.size(), kMaxProjections));
    ops_.matmul(picked_, rows, some);
    left = left.subspan(some.size());
  }
}

}  // namespace apar
