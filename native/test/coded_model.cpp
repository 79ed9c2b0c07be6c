#include "test/coded_model.h"

#include <cmath>
#include <fstream>
#include <string>

#include "common/float16.h"

namespace apar::test {
namespace {

// The row of each nibble of AWQ's words.
constexpr int32_t kAwqRows[] = {0, 2, 4, 6, 1, 3, 5, 7};

// Words of eight neighbours, neighbour `order[i]` in nibble i.
template <class Value>
uint32_t word_of(const int32_t* order, Value value) {
  uint32_t word = 0;
  for (int32_t i = 0; i < 8; ++i) word |= uint32_t{value(order == nullptr ? i : order[i])} << i * 4;
  return word;
}

// Appends to a file, at multiples of 4 bytes.
class Appended {
 public:
  explicit Appended(const std::string& path) : out_(path, std::ios::binary) {
    out_.exceptions(std::ios::failbit | std::ios::badbit);
  }
  template <class Element>
  uint64_t add(const std::vector<Element>& elements) {
    const uint64_t at = end_;
    const size_t bytes = elements.size() * sizeof(Element), padded = (bytes + 3) / 4 * 4;
    out_.write(reinterpret_cast<const char*>(elements.data()), static_cast<std::streamsize>(bytes));
    out_.write("\0\0\0", static_cast<std::streamsize>(padded - bytes));
    end_ += padded;
    return at;
  }

 private:
  std::ofstream out_;
  uint64_t end_ = 0;
};

}  // namespace

CodedLayer::CodedLayer(std::mt19937& random, DType layer_dtype, int64_t layer_rows, int64_t layer_cols,
                       int64_t inputs_per_group)
    : dtype(layer_dtype), rows(layer_rows), cols(layer_cols), group(inputs_per_group) {
  // The weights then have the spread of make_random_model().
  const float spread = 0.19f / std::sqrt(static_cast<float>(cols));
  for (int64_t i = 0; i < groups() * rows; ++i) {
    scales.push_back(f32_to_f16(spread * (0.5f + static_cast<float>(random() % 1000) / 1000)));
    zeros.push_back(static_cast<uint8_t>(4 + random() % 9));
  }
  zeros.front() = 0;
  zeros.back() = 15;
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t col = 0; col < cols; ++col) {
      const auto at = static_cast<size_t>(col / group * rows + row);
      codes.push_back(static_cast<uint8_t>(random() % 16));
      weights.push_back(f16_to_f32(scales[at]) * static_cast<float>(codes.back() - zeros[at]));
    }
  }
}

std::vector<uint32_t> CodedLayer::code_words() const {
  std::vector<uint32_t> words;
  const auto code = [&](int64_t row, int64_t col) { return codes[static_cast<size_t>(row * cols + col)]; };
  if (dtype == DType::awq_4) {
    for (int64_t col = 0; col < cols; ++col)
      for (int64_t row = 0; row < rows; row += 8)
        words.push_back(word_of(kAwqRows, [&](int32_t i) { return code(row + i, col); }));
  } else {
    for (int64_t col = 0; col < cols; col += 8)
      for (int64_t row = 0; row < rows; ++row)
        words.push_back(word_of(nullptr, [&](int32_t i) { return code(row, col + i); }));
  }
  return words;
}

std::vector<uint32_t> CodedLayer::zero_words() const {
  std::vector<uint32_t> words;
  const bool awq = dtype == DType::awq_4;
  for (size_t first = 0; first < zeros.size(); first += 8) {
    const auto zero = [&](int32_t i) { return zeros[first + static_cast<size_t>(i)]; };
    words.push_back(word_of(awq ? kAwqRows : nullptr, zero) - (awq ? 0 : 0x11111111u));
  }
  return words;
}

CodedModel make_coded_model(const ModelConfig& config, uint64_t seed, DType dtype, int64_t group) {
  CodedModel models{make_random_model(config, seed), make_random_model(config, seed)};
  std::mt19937 random(static_cast<uint32_t>(seed));
  WeightTable &coded = models.coded.weights, &decoded = models.decoded.weights;
  const std::string codes_path = (models.coded.dir.path() / "codes.bin").string();
  const std::string decoded_path = (models.decoded.dir.path() / "decoded.bin").string();
  Appended codes_file(codes_path), decoded_file(decoded_path);
  coded.files.push_back(codes_path);
  decoded.files.push_back(decoded_path);
  std::vector<TensorInfo> parts;
  for (size_t i = 0; i < coded.tensors.size(); ++i) {
    TensorInfo& tensor = coded.tensors[i];
    if (!tensor.name.ends_with("_proj.weight")) continue;
    const CodedLayer layer(random, dtype, tensor.shape[0], tensor.shape[1], group);
    const std::string scales = tensor.name + ".scales", zeros = tensor.name + ".zeros";
    tensor.file = 1;
    tensor.offset = codes_file.add(layer.code_words());
    tensor.dtype = dtype;
    tensor.quantised = QuantisedInfo{1, group, scales, zeros, "", dtype == DType::awq_4 ? 0 : 1};
    parts.push_back({scales, 1, codes_file.add(layer.scales), DType::f16, {layer.groups(), layer.rows}});
    parts.push_back(
        {zeros, 1, codes_file.add(layer.zero_words()), DType::i32, {layer.groups(), layer.rows / 8}});
    decoded.tensors[i].file = 1;
    decoded.tensors[i].offset = decoded_file.add(layer.weights);
  }
  coded.tensors.insert(coded.tensors.end(), parts.begin(), parts.end());
  return models;
}

}  // namespace apar::test
