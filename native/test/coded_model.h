#pragma once

#include <cstdint>
#include <random>
#include <vector>

#include "common/model_config.h"
#include "test/random_model.h"

namespace apar::test {

// A random linear layer in codes of 4 bits, as AWQ and GPTQ checkpoints store it, and what they stand for.
struct CodedLayer {
  DType dtype = DType::awq_4;  // or gptq_4
  int64_t rows = 0, cols = 0;
  int64_t group = 128;           // inputs that share a scale and a zero point
  std::vector<uint8_t> codes;    // [rows, cols]
  std::vector<uint16_t> scales;  // f16 [groups, rows]
  std::vector<uint8_t> zeros;    // [groups, rows]
  std::vector<float> weights;    // [rows, cols]

  // Rows and columns are multiples of 8.
  CodedLayer(std::mt19937& random, DType layer_dtype, int64_t layer_rows, int64_t layer_cols,
             int64_t inputs_per_group = 128);
  int64_t groups() const { return (cols + group - 1) / group; }
  // The layer's tensors of these names in a file, GPTQ's zero points as in version 1.
  std::vector<uint32_t> code_words() const;
  std::vector<uint32_t> zero_words() const;
};

// A model whose layers, but not its output layer, are stored in codes, and the same weights in f32.
struct CodedModel {
  RandomModel coded;
  RandomModel decoded;
};
CodedModel make_coded_model(const ModelConfig& config, uint64_t seed, DType dtype, int64_t group = 128);

}  // namespace apar::test
