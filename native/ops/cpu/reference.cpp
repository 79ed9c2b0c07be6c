// The reference kernels, which the others are checked against: plain loops, one sum after the other, for any
// processor.
#include <cmath>

#include "common/float16.h"
#include "ops/cpu/kernels.h"
#include "ops/cpu/packed.h"

namespace apar::cpu {
namespace {

float to_f32(float value) {
  return value;
}
float to_f32(uint16_t value) {
  return bf16_to_f32(value);
}

void matmul_f32(const float* w, const float* x, float* y, const MatmulRange& range) {
  for (int64_t out = range.out_begin; out < range.out_end; ++out) {
    for (int64_t row = 0; row < range.rows; ++row) {
      float sum = 0;
      for (int64_t i = 0; i < range.in; ++i) sum += w[out * range.in + i] * x[row * range.in + i];
      y[row * range.y_stride + out] = sum;
    }
  }
}

void prepare_bf16(const float* x, int64_t in, std::byte* prepared) {
  auto* const out = reinterpret_cast<uint16_t*>(prepared);
  for (int64_t i = 0; i < pairs(in) * 2; ++i) out[i] = i < in ? f32_to_bf16(x[i]) : 0;
}

template <int32_t kOffset>
void prepare_int8(const float* x, int64_t in, std::byte* prepared) {
  const int64_t count = groups(in);
  auto* const quantised = reinterpret_cast<int8_t*>(prepared);
  auto* const scales = reinterpret_cast<float*>(prepared + count * kGroup);
  auto* const offsets = reinterpret_cast<int32_t*>(scales + count);
  for (int64_t group = 0; group < count; ++group) {
    float value[kGroup], most = 0, poison = 0;
    for (int64_t i = 0; i < kGroup; ++i) {
      value[i] = group * kGroup + i < in ? x[group * kGroup + i] : 0.0f;
      most = std::fmax(most, std::abs(value[i]));
      poison += value[i] * 0.0f;
    }
    const float inverse = most > 0 ? 127.0f / most : 0.0f;
    int32_t sum = 0;
    for (int64_t i = 0; i < kGroup; ++i) {
      const float whole = std::nearbyint(value[i] * inverse);
      quantised[group * kGroup + i] = std::isfinite(whole) ? static_cast<int8_t>(whole) : 0;
      sum += quantised[group * kGroup + i];
    }
    scales[group] = most / 127.0f + poison;
    offsets[group] = -kOffset * sum;
  }
}

// Weight `i` of an output of a panel or group; int8 and int4 as stored, with their offset and without a
// scale.
float bf16_weight(const std::byte* panel, int64_t out, int64_t i) {
  return bf16_to_f32(reinterpret_cast<const uint16_t*>(panel)[(i / 2 * kPanel + out) * 2 + i % 2]);
}
int32_t int8_weight(const std::byte* group, int64_t out, int64_t i) {
  return static_cast<int32_t>(group[(i / 4 * kPanel + out) * 4 + i % 4]);
}
int32_t int4_weight(const std::byte* group, int64_t out, int64_t i) {
  const auto both = static_cast<int32_t>(group[(i % 16 / 4 * kPanel + out) * 4 + i % 4]);
  return i < 16 ? both & 15 : both >> 4;
}

// A format's product: the dot product of one output of a panel with a prepared row.
struct Bf16Product {
  static constexpr WeightFormat kFormat = WeightFormat::bf16;

  static float dot(const std::byte* panel, int64_t out, const std::byte* x, int64_t in) {
    const auto* const row = reinterpret_cast<const uint16_t*>(x);
    float sum = 0;
    for (int64_t i = 0; i < in; ++i) sum += bf16_weight(panel, out, i) * bf16_to_f32(row[i]);
    return sum;
  }
};

template <WeightFormat kWeights>
struct IntProduct {
  static constexpr WeightFormat kFormat = kWeights;
  static constexpr bool kInt4 = kWeights == WeightFormat::int4;

  static float dot(const std::byte* panel, int64_t out, const std::byte* x, int64_t in) {
    constexpr int64_t kBytes = kInt4 ? kInt4GroupBytes : kInt8GroupBytes;
    const int64_t count = groups(in);
    const auto* const row = reinterpret_cast<const int8_t*>(x);
    const auto* const scales = reinterpret_cast<const float*>(x + count * kGroup);
    const auto* const offsets = reinterpret_cast<const int32_t*>(scales + count);
    float sum = 0;
    for (int64_t index = 0; index < count; ++index) {
      const std::byte* const group = panel + index * kBytes;
      int32_t dot = offsets[index];
      for (int64_t i = 0; i < kGroup; ++i)
        dot += (kInt4 ? int4_weight(group, out, i) : int8_weight(group, out, i)) * row[index * kGroup + i];
      const auto* const weight_scales = reinterpret_cast<const uint16_t*>(group + kBytes) - kPanel;
      sum += static_cast<float>(dot) * (f16_to_f32(weight_scales[out]) * scales[index]);
    }
    return sum;
  }
};

template <class Product>
void multiply(const std::byte* w, const std::byte* x, float* y, const PanelRange& range) {
  const int64_t stride = prepared_bytes(Product::kFormat, range.in);
  const int64_t bytes = panel_bytes(Product::kFormat, range.in);
  for (int64_t out = range.begin * kPanel; out < range.end * kPanel && out < range.outs; ++out)
    for (int64_t row = 0; row < range.rows; ++row)
      y[row * range.y_stride + out] =
          Product::dot(w + out / kPanel * bytes, out % kPanel, x + row * stride, range.in);
}

void add(float* x, const float* y, int64_t count) {
  for (int64_t i = 0; i < count; ++i) x[i] += y[i];
}

void rms_norm(const float* x, const float* weight, float eps, int64_t width, float* out) {
  float squares = 0;
  for (int64_t i = 0; i < width; ++i) squares += x[i] * x[i];
  const float scale = 1.0f / std::sqrt(squares / static_cast<float>(width) + eps);
  for (int64_t i = 0; i < width; ++i) out[i] = x[i] * scale * weight[i];
}

void swiglu(float* gate, const float* up, int64_t count) {
  for (int64_t i = 0; i < count; ++i) gate[i] = gate[i] / (1.0f + std::exp(-gate[i])) * up[i];
}

template <class Element>
int64_t key_index(int64_t dim, int64_t token) {
  if (sizeof(Element) == sizeof(float)) return dim * kBlockTokens + token;
  return (dim / 2 * kBlockTokens + token) * 2 + dim % 2;
}

void rotate(float* head, const float* cos, const float* sin, int64_t half) {
  for (int64_t i = 0; i < half; ++i) {
    const float a = head[i], b = head[i + half];
    head[i] = a * cos[i] - b * sin[i];
    head[i + half] = b * cos[i] + a * sin[i];
  }
}

template <class Element>
void scores(const Element* keys, const Element* q, int64_t queries, int64_t head_dim, float* out,
            int64_t score_stride) {
  for (int64_t query = 0; query < queries; ++query) {
    for (int64_t token = 0; token < kBlockTokens; ++token) {
      float sum = 0;
      for (int64_t i = 0; i < head_dim; ++i)
        sum += to_f32(q[query * head_dim + i]) * to_f32(keys[key_index<Element>(i, token)]);
      out[query * score_stride + token] = sum;
    }
  }
}

float softmax(float* scores, int64_t count) {
  float max = scores[0];
  for (int64_t i = 1; i < count; ++i) max = std::fmax(max, scores[i]);
  float sum = 0;
  for (int64_t i = 0; i < count; ++i) sum += scores[i] = std::exp(scores[i] - max);
  return sum;
}

template <class Element>
void values(const Element* values, int64_t tokens, int64_t stride, const float* p, int64_t p_stride,
            int64_t queries, float* sums) {
  for (int64_t query = 0; query < queries; ++query)
    for (int64_t token = 0; token < tokens; ++token)
      for (int64_t i = 0; i < stride; ++i)
        sums[query * stride + i] += p[query * p_stride + token] * to_f32(values[token * stride + i]);
}

#include "ops/cpu/kernel_table.inl"

}  // namespace

constinit const Kernels reference_kernels = kKernels;

}  // namespace apar::cpu
