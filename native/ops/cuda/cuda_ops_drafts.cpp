// What CudaOps does for draft heads and for the tokens that a verified draft leaves behind, outside of the
// steps and so outside of their graphs.
#include <algorithm>
#include <cstring>

#include "common/error.h"
#include "ops/cuda/cuda_ops.h"
#include "ops/cuda/elementwise/copy_slots.h"
#include "ops/cuda/elementwise/drafts.h"

namespace apar::cuda {

void CudaOps::allocate_drafts() {
  copies_.resize(*device_, static_cast<size_t>(config_.max_rows), "copies of slots");
  const auto rows = static_cast<size_t>(config_.draft_rows);
  if (rows == 0) return;
  picks_.resize(*device_, rows, "drafts");
  tokens_.resize(*device_, rows, "drafts");
  top_tokens_.resize(*device_, rows * kMaxDraftTokens, "drafts");
  top_logits_.resize(*device_, rows * kMaxDraftTokens, "drafts");
  log_sums_.resize(*device_, rows, "drafts");
}

// Only what the array held before must have been read: rows and tokens of one pass do not wait for each
// other.
const int32_t* CudaOps::upload_ids(PinnedArray<int32_t>& to, std::span<const int32_t> ids) {
  if (to.in_flight) wait();
  device_->upload(to.device, to.put(ids), ids.size_bytes());
  to.in_flight = true;
  return to.device;
}

void CudaOps::pick_rows(const float* x, std::span<const int32_t> row_ids, int32_t width, float* out) {
  const int32_t* const ids = upload_ids(picks_, row_ids);
  cuda::pick_rows(stream_, ids, static_cast<int32_t>(row_ids.size()), width, x, out, buffer(out).bf16);
}

void CudaOps::pick_embeddings(const Matrix& table, std::span<const int32_t> tokens, float* out) {
  const int32_t* const ids = upload_ids(tokens_, tokens);
  cuda::pick_embeddings(stream_, ids, static_cast<int32_t>(tokens.size()), table, out, buffer(out).bf16);
}

void CudaOps::add(const float* x, const float* y, int32_t rows, int32_t width, float* out) {
  cuda::add(stream_, int64_t{rows} * width, x, y, out, buffer(out).bf16);
}

void CudaOps::add_silu(const float* x, const float* y, int32_t rows, int32_t width, float* out,
                       int32_t first_row) {
  const int64_t first = int64_t{first_row} * width;
  cuda::add_silu(stream_, int64_t{rows} * width, x, y, out + first, buffer(out).bf16 + first);
}

// The logits of one product at a time are on the device, of up to logit_rows() rows. Of a head, only the
// outputs of tokens that can be among the largest are multiplied; those come first.
void CudaOps::top_tokens(const float* x, int32_t rows, std::span<const Linear> heads, int32_t vocab,
                         int32_t top_k, std::span<TokenLogit> top, std::span<float> log_sums) {
  const auto total = static_cast<int32_t>(heads.size()) * rows;
  for (int32_t row = 0; row < total;) {
    const Linear& head = heads[static_cast<size_t>(row / rows)];
    int32_t end = row;
    while (end < total && heads[static_cast<size_t>(end / rows)].data == head.data) end += rows - end % rows;
    const int32_t count = std::min(end - row, config_.logit_rows());
    Linear known = head;
    known.rows = std::clamp<int64_t>(vocab, 1, head.rows);
    const Projection projection = {known, logits_};
    multiply({x + int64_t{row} * head.cols, buffer(x).bf16 + int64_t{row} * head.cols, count},
             {&projection, 1});
    const auto stride = static_cast<int32_t>(known.rows);
    cuda::top_tokens(stream_, logits_, count,
                     {stride, vocab, top_k, top_tokens_.device + int64_t{row} * top_k,
                      top_logits_.device + int64_t{row} * top_k, log_sums_.device + row});
    row += count;
  }
  device_->download(top_tokens_.pinned, top_tokens_.device, top.size() * sizeof(int32_t));
  device_->download(top_logits_.pinned, top_logits_.device, top.size() * sizeof(float));
  device_->download(log_sums_.pinned, log_sums_.device, log_sums.size_bytes());
  wait();
  for (size_t i = 0; i < top.size(); ++i) top[i] = {top_tokens_.pinned[i], top_logits_.pinned[i]};
  std::copy_n(log_sums_.pinned, log_sums.size(), log_sums.begin());
}

void CudaOps::copy_slots(std::span<const SlotCopy> copies) {
  const auto side = [&](void* data, int64_t bytes) {
    return PoolSide{data, config_.num_layers, config_.num_blocks, config_.num_kv_heads,
                    static_cast<int32_t>(bytes)};
  };
  const auto bytes = config_.head_dim * static_cast<int64_t>(element_bytes(config_.kv_format));
  while (!copies.empty()) {
    const auto some = copies.first(std::min(copies.size(), copies_.count));
    if (copies_.in_flight) wait();
    device_->upload(copies_.device, copies_.put(some), some.size_bytes());
    copies_.in_flight = true;
    const auto count = static_cast<int32_t>(some.size());
    for (std::byte* const data : {keys_, values_})
      cuda::copy_slots(stream_, copies_.device, count, side(data, bytes));
    if (kv_scales_ != nullptr)
      cuda::copy_slots(stream_, copies_.device, count, side(kv_scales_, sizeof(KvScale)));
    copies = copies.subspan(some.size());
  }
}

}  // namespace apar::cuda
