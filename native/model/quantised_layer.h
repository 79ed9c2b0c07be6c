#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "common/model_config.h"

// Linear layers that a checkpoint stores as codes, with their scales in tensors of their own:
//   f8_e4m3  a code per weight [rows][cols], as FP8 checkpoints of transformers, vLLM and compressed-tensors
//   awq_4    4 bits per weight, words of 8 rows of one column: [cols][rows / 8]. AutoAWQ's version `gemm`
//   gptq_4   4 bits per weight, words of 8 columns of one row: [cols / 8][rows]. AutoGPTQ, GPTQModel
//   gptq_8   the same with 8 bits and 4 columns
// A row is an output, a column an input.
namespace apar {

struct QuantisedLayer {
  DType dtype = DType::f8_e4m3;
  int64_t rows = 0, cols = 0;
  const std::byte* codes = nullptr;  // at any alignment

  // f8_e4m3: a scale per block of rows and columns, [blocks of rows][blocks of columns].
  int64_t block_rows = 1, block_cols = 1;
  // Else a scale and a zero point per row and group of columns, [groups][rows], and the group of each column.
  std::vector<float> scales;
  std::vector<float> zeros;
  std::vector<int32_t> groups;
};

// Words of zero points as numbers: [groups][rows], with rows packed as in the codes of awq_4, or in the order
// of their bits in those of gptq_4 and gptq_8. `offset` is 1 for GPTQ files of version 1, which store one
// less; it is added to a whole word, as their writer subtracted it, so that a zero point of 0 borrows from
// its neighbour and pays back.
std::vector<float> unpack_zeros(DType dtype, const std::byte* words, int64_t count, int32_t offset);

// The scales and zero points per output and group of 128 inputs, if WeightFormat::int4_g128 can hold the
// layer's own numbers: codes of 4 bits, and whole groups of 128 neighbouring inputs that share scales which
// f16 holds. Else nothing. [groups][rows], as in LongGroups.
struct LongGroupParts {
  std::vector<uint16_t> scales;
  std::vector<uint8_t> zeros;
};
std::optional<LongGroupParts> long_groups(const QuantisedLayer& layer);

// Writes weights[rows][cols] as f32 or bf16 (rounded to nearest even), on all cores. A weight is one f32
// product, of numbers that f32 holds exactly: scale * code, or scale * (code - zero point).
void dequantise(const QuantisedLayer& layer, DType dtype, std::byte* weights);

}  // namespace apar
