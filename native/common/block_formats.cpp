#include "common/block_formats.h"

#include <cstring>

#include "common/float16.h"

namespace apar {
namespace {

// Bytes of a block, read at any alignment.
class Bytes {
 public:
  explicit Bytes(const std::byte* data) : data_(data) {}
  int32_t operator[](int32_t at) const { return static_cast<int32_t>(data_[at]); }
  int32_t signed_at(int32_t at) const { return static_cast<int8_t>(data_[at]); }
  float half(int32_t at) const {
    uint16_t bits;
    std::memcpy(&bits, data_ + at, sizeof(bits));
    return f16_to_f32(bits);
  }
  Bytes from(int32_t at) const { return Bytes(data_ + at); }

 private:
  const std::byte* data_;
};

constexpr int32_t kHalf = 16;  // a nibble block has inputs i in the low halves and i + 16 in the high halves

void decode_q8_0(Bytes block, float* weights) {
  const float scale = block.half(0);
  for (int32_t i = 0; i < 32; ++i) weights[i] = scale * static_cast<float>(block.signed_at(2 + i));
}

// Calls put(input, nibble) for the 32 nibbles at `at`.
template <class Put>
void for_each_nibble(Bytes block, int32_t at, Put put) {
  for (int32_t i = 0; i < kHalf; ++i) {
    put(i, block[at + i] & 15);
    put(i + kHalf, block[at + i] >> 4);
  }
}

void decode_q4_0(Bytes block, float* weights) {
  const float scale = block.half(0);
  for_each_nibble(block, 2, [&](int32_t i, int32_t q) { weights[i] = scale * static_cast<float>(q - 8); });
}

void decode_q4_1(Bytes block, float* weights) {
  const float scale = block.half(0), min = block.half(2);
  for_each_nibble(block, 4, [&](int32_t i, int32_t q) { weights[i] = scale * static_cast<float>(q) + min; });
}

// The fifth bit of weight i is bit i of the 32 bits at `at`.
int32_t fifth_bit(Bytes block, int32_t at, int32_t i) {
  return (block[at + i / 8] >> i % 8 & 1) << 4;
}

void decode_q5_0(Bytes block, float* weights) {
  const float scale = block.half(0);
  for_each_nibble(block, 6, [&](int32_t i, int32_t q) {
    weights[i] = scale * static_cast<float>((q | fifth_bit(block, 2, i)) - 16);
  });
}

void decode_q5_1(Bytes block, float* weights) {
  const float scale = block.half(0), min = block.half(2);
  for_each_nibble(block, 8, [&](int32_t i, int32_t q) {
    weights[i] = scale * static_cast<float>(q | fifth_bit(block, 4, i)) + min;
  });
}

void decode_iq4_nl(Bytes block, float* weights) {
  static constexpr int8_t kValues[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                         1,    13,   25,  38,  53,  69,  89,  113};
  const float scale = block.half(0);
  for_each_nibble(block, 2, [&](int32_t i, int32_t q) { weights[i] = scale * kValues[q]; });
}

// The K formats hold 256 weights: two halves of 128, each with four (2 and 3 bits) or two (4 and 5 bits) rows
// of 32 that lie in different bits of the same bytes.

// [16 scales: low half scale, high half minimum][64 x 4 weights of 2 bits][scale][scale of the minima]
void decode_q2_k(Bytes block, float* weights) {
  const float scale = block.half(80), min_scale = block.half(82);
  for (int32_t i = 0; i < 256; ++i) {
    const int32_t group = block[i / 16];
    const int32_t q = block[16 + i / 128 * 32 + i % 32] >> i % 128 / 32 * 2 & 3;
    weights[i] = scale * static_cast<float>(group & 15) * static_cast<float>(q) -
                 min_scale * static_cast<float>(group >> 4);
  }
}

// [32: third bits][64 x 4 weights of 2 bits][12: sixteen scales of 6 bits][scale]
void decode_q3_k(Bytes block, float* weights) {
  const float scale = block.half(108);
  const Bytes scales = block.from(96);
  for (int32_t i = 0; i < 256; ++i) {
    const int32_t group = i / 16;
    const int32_t low = group < 8 ? scales[group] & 15 : scales[group - 8] >> 4;
    const int32_t high = scales[8 + group % 4] >> group / 4 * 2 & 3;
    const int32_t q = block[32 + i / 128 * 32 + i % 32] >> i % 128 / 32 * 2 & 3;
    const int32_t third = block[i % 32] >> i / 32 & 1;
    weights[i] = scale * static_cast<float>((low | high << 4) - 32) * static_cast<float>(q - (third ? 0 : 4));
  }
}

struct ScaleAndMin {
  float scale, min;
};
// Of group 0 to 7 of 32 weights, each of 6 bits: those of the first four groups in the low bits of 8 bytes,
// the others in 4 bytes and the upper two bits of the first 8.
ScaleAndMin scale_and_min(Bytes packed, int32_t group) {
  const auto value = [](int32_t bits) { return static_cast<float>(bits); };
  if (group < 4) return {value(packed[group] & 63), value(packed[group + 4] & 63)};
  return {value((packed[group + 4] & 15) | packed[group - 4] >> 6 << 4),
          value(packed[group + 4] >> 4 | packed[group] >> 6 << 4)};
}

// [scale][scale of the minima][12: scales and minima][128 x 2 weights of 4 bits]
void decode_q4_k(Bytes block, float* weights) {
  const float scale = block.half(0), min_scale = block.half(2);
  for (int32_t group = 0; group < 8; ++group) {
    const ScaleAndMin own = scale_and_min(block.from(4), group);
    const float factor = scale * own.scale, min = min_scale * own.min;
    for (int32_t i = 0; i < 32; ++i) {
      const int32_t q = block[16 + group / 2 * 32 + i] >> group % 2 * 4 & 15;
      weights[group * 32 + i] = factor * static_cast<float>(q) - min;
    }
  }
}

// As q4_k, with [32: fifth bits] before the weights.
void decode_q5_k(Bytes block, float* weights) {
  const float scale = block.half(0), min_scale = block.half(2);
  for (int32_t group = 0; group < 8; ++group) {
    const ScaleAndMin own = scale_and_min(block.from(4), group);
    const float factor = scale * own.scale, min = min_scale * own.min;
    for (int32_t i = 0; i < 32; ++i) {
      const int32_t q = block[48 + group / 2 * 32 + i] >> group % 2 * 4 & 15;
      const int32_t fifth = block[16 + i] >> group & 1;
      weights[group * 32 + i] = factor * static_cast<float>(q | fifth << 4) - min;
    }
  }
}

// [128 x 2: low 4 bits][64 x 4: high 2 bits][16 int8 scales][scale]
void decode_q6_k(Bytes block, float* weights) {
  const float scale = block.half(208);
  for (int32_t i = 0; i < 256; ++i) {
    const int32_t half = i / 128, row = i % 128 / 32, column = i % 32;
    const int32_t low = block[half * 64 + row % 2 * 32 + column] >> row / 2 * 4 & 15;
    const int32_t high = block[128 + half * 32 + column] >> row * 2 & 3;
    const auto group = static_cast<float>(block.signed_at(192 + i / 16));
    weights[i] = scale * group * static_cast<float>((low | high << 4) - 32);
  }
}

}  // namespace

void decode_block(DType dtype, const std::byte* block, float* weights) {
  const Bytes bytes(block);
  switch (dtype) {
    case DType::f32:
    case DType::bf16:
    case DType::f16:
    case DType::f8_e4m3:
    case DType::awq_4:
    case DType::gptq_4:
    case DType::gptq_8:
    case DType::i32:
      return;  // not stored in blocks with their scales
    case DType::q8_0:
      return decode_q8_0(bytes, weights);
    case DType::q4_0:
      return decode_q4_0(bytes, weights);
    case DType::q4_1:
      return decode_q4_1(bytes, weights);
    case DType::q5_0:
      return decode_q5_0(bytes, weights);
    case DType::q5_1:
      return decode_q5_1(bytes, weights);
    case DType::q2_k:
      return decode_q2_k(bytes, weights);
    case DType::q3_k:
      return decode_q3_k(bytes, weights);
    case DType::q4_k:
      return decode_q4_k(bytes, weights);
    case DType::q5_k:
      return decode_q5_k(bytes, weights);
    case DType::q6_k:
      return decode_q6_k(bytes, weights);
    case DType::iq4_nl:
      return decode_iq4_nl(bytes, weights);
  }
}

std::optional<uint16_t> shared_scale(const Matrix& w, WeightFormat format, int64_t row, int64_t group) {
  const bool same = (w.dtype == DType::q8_0 && format == WeightFormat::int8) ||
                    (w.dtype == DType::q4_0 && format == WeightFormat::int4);
  if (!same) return std::nullopt;
  const int64_t block = row * w.cols / block_size(w.dtype).elements + group;
  uint16_t scale;
  std::memcpy(&scale, static_cast<const std::byte*>(w.data) + block * block_size(w.dtype).bytes,
              sizeof(scale));
  return scale;
}

}  // namespace apar
