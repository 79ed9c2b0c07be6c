// What the other kernels are checked against: plain loops, one sum after the other, for any processor.
#include <cmath>

#include "ops/cpu/kernels.h"
#include "ops/float16.h"

namespace apar::cpu {
namespace {

float to_f32(float value) {
  return value;
}
float to_f32(uint16_t value) {
  return bf16_to_f32(value);
}

template <class Element>
void matmul(const Element* w, const float* x, float* y, const MatmulRange& range) {
  for (int64_t out = range.out_begin; out < range.out_end; ++out) {
    for (int64_t row = 0; row < range.rows; ++row) {
      float sum = 0;
      for (int64_t i = 0; i < range.in; ++i) sum += to_f32(w[out * range.in + i]) * x[row * range.in + i];
      y[row * range.y_stride + out] = sum;
    }
  }
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
void scores(const Element* keys, const float* q, int64_t queries, int64_t head_dim, float* out,
            int64_t score_stride) {
  for (int64_t query = 0; query < queries; ++query) {
    for (int64_t token = 0; token < kBlockTokens; ++token) {
      float sum = 0;
      for (int64_t i = 0; i < head_dim; ++i)
        sum += q[query * head_dim + i] * to_f32(keys[i * kBlockTokens + token]);
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

}  // namespace

const Kernels reference_kernels = {
    .matmul_f32 = matmul<float>,
    .matmul_bf16 = matmul<uint16_t>,
    .add = add,
    .rms_norm = rms_norm,
    .swiglu = swiglu,
    .scores_f32 = scores<float>,
    .scores_bf16 = scores<uint16_t>,
    .softmax = softmax,
    .values_f32 = values<float>,
    .values_bf16 = values<uint16_t>,
};

}  // namespace apar::cpu
