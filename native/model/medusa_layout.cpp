#include "model/medusa_layout.h"

#include <algorithm>
#include <map>
#include <set>
#include <utility>

namespace apar {
namespace {

constexpr const char* kPrefix = "medusa.";
constexpr int32_t kPassRows = 128;  // of all heads together

}  // namespace

std::vector<LinearLayer> medusa_layers(const ModelConfig& config) {
  const auto& [heads, blocks, shares_lm_head, vocab, reads_next_token] = config.medusa;
  const int64_t hidden = config.hidden_size;
  std::vector<LinearLayer> layers;
  if (heads > 0 && reads_next_token)
    layers.push_back({std::string(kPrefix) + "next_token.weight", hidden, hidden, {}, ""});
  for (int32_t head = 0; head < heads; ++head) {
    const std::string name = kPrefix + std::to_string(head) + ".";
    for (int32_t block = 0; block < blocks; ++block) {
      const std::string linear = name + std::to_string(block) + ".linear.";
      layers.push_back({linear + "weight", hidden, hidden, {}, linear + "bias"});
    }
    if (!shares_lm_head)
      layers.push_back({name + std::to_string(blocks) + ".weight",
                        config.vocab_size,
                        hidden,
                        {.outputs = Axis::vocabulary},
                        ""});
  }
  return layers;
}

std::vector<size_t> shared_weights(const std::vector<LinearLayer>& layers, const WeightTable& table) {
  std::map<std::string, std::pair<int32_t, uint64_t>> places;
  for (const TensorInfo& tensor : table.tensors)
    if (tensor.name.starts_with(kPrefix)) places[tensor.name] = {tensor.file, tensor.offset};
  std::map<std::pair<int32_t, uint64_t>, size_t> first;
  std::vector<size_t> shared;
  for (size_t i = 0; i < layers.size(); ++i) {
    const auto place = places.find(layers[i].tensor);
    shared.push_back(place == places.end() ? i : first.try_emplace(place->second, i).first->second);
  }
  return shared;
}

WeightTable decoder_weights(const WeightTable& table) {
  WeightTable decoder = table;
  std::set<int32_t> left;
  std::erase_if(decoder.tensors, [&](const TensorInfo& tensor) {
    const bool is_head = tensor.name.starts_with(kPrefix);
    if (is_head) left.insert(tensor.file);
    return is_head;
  });
  for (const TensorInfo& tensor : decoder.tensors) left.erase(tensor.file);
  // They come last (gpu-node/engine-options.ts), so the other files keep their numbers.
  while (!decoder.files.empty() && left.contains(static_cast<int32_t>(decoder.files.size()) - 1))
    decoder.files.pop_back();
  return decoder;
}

uint64_t medusa_bytes(const WeightTable& table) {
  std::map<std::pair<int32_t, uint64_t>, uint64_t> sizes;
  for (const TensorInfo& tensor : table.tensors)
    if (tensor.name.starts_with(kPrefix) && tensor.shape.size() == 2)
      sizes[{tensor.file, tensor.offset}] =
          static_cast<uint64_t>(stored_bytes(tensor.dtype, tensor.shape[0] * tensor.shape[1]));
  uint64_t total = 0;
  for (const auto& [place, bytes] : sizes) total += bytes;
  return total;
}

int32_t rows_per_head(const MedusaConfig& medusa, int32_t max_rows) {
  return medusa.num_heads == 0 ? 0 : std::min(max_rows, kPassRows / medusa.num_heads);
}

std::vector<uint64_t> MedusaBuffers::all(const MedusaConfig& medusa) const {
  if (medusa.num_heads == 0) return {};
  std::vector<uint64_t> sizes = {picked, inputs};
  for (int32_t head = 0; head < medusa.num_heads; ++head) {
    sizes.push_back(residual);
    sizes.push_back(block);
  }
  return sizes;
}

MedusaBuffers medusa_buffers(const ModelConfig& config, int32_t max_rows) {
  const uint64_t one = static_cast<uint64_t>(rows_per_head(config.medusa, max_rows)) *
                       static_cast<uint64_t>(config.hidden_size);
  return {.picked = one,
          .residual = one,
          .block = one,
          .inputs = one * static_cast<uint64_t>(config.medusa.num_heads)};
}

}  // namespace apar
