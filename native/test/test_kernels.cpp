// Compares each kernel of each instruction set with a double-precision reference, on odd shapes, in arrays
// that end at a guard page.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "common/float16.h"
#include "ops/cpu/kernels.h"
#include "test/random_numbers.h"
#include "testing/guarded.h"

using namespace apar;
using namespace apar::cpu;
using namespace apar::test;

namespace {

std::mt19937 rng(7);

float uniform() {
  return random_float(rng);
}
int64_t draw(int64_t from, int64_t to) {
  return random_int(rng, from, to);
}

void set(float& element, float value) {
  element = value;
}
void set(uint16_t& element, float value) {
  element = f32_to_bf16(value);
}
double get(float element) {
  return element;
}
double get(uint16_t element) {
  return bf16_to_f32(element);
}

template <class T>
void fill(const Guarded<T>& buffer, float scale = 1) {
  for (T& element : buffer) set(element, uniform() * scale);
}

bool same_bits(const float* a, const float* b, size_t count) {
  return std::memcmp(a, b, count * sizeof(float)) == 0;
}

template <class Body>
void for_each_isa(Body body) {
  for (const Isa isa : kAllIsas) {
    if (!supported(isa)) continue;
    CAPTURE(std::string(to_string(isa)));
    body(kernels(isa));
  }
}

void check_matmul(const Kernels& k, int64_t rows, int64_t outs, int64_t in) {
  CAPTURE(rows);
  CAPTURE(outs);
  CAPTURE(in);
  const Guarded<float> w(outs * in), x(rows * in), y(rows * outs), one(outs);
  fill(w);
  fill(x);
  const int64_t middle = draw(0, outs);  // two ranges, as with two threads
  k.matmul_f32(w.data(), x.data(), y.data(), {rows, in, 0, middle, outs});
  for (int64_t row = 0; row < rows; ++row)
    for (int64_t out = middle; out < outs; ++out) CHECK(std::isnan(y[row * outs + out]));
  k.matmul_f32(w.data(), x.data(), y.data(), {rows, in, middle, outs, outs});
  double worst = 0;
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t out = 0; out < outs; ++out) {
      double want = 0;
      for (int64_t i = 0; i < in; ++i) want += double{w[out * in + i]} * x[row * in + i];
      const double difference = std::abs(y[row * outs + out] - want);
      REQUIRE(std::isfinite(difference));
      worst = std::max(worst, difference);
    }
    k.matmul_f32(w.data(), x.data() + row * in, one.data(), {1, in, 0, outs, outs});
    CHECK(same_bits(one.data(), y.data() + row * outs, outs));
  }
  CHECK(worst < 2e-7 * static_cast<double>(in) + 1e-6);
}

template <class Element>
void check_attention(const Kernels& k, int64_t queries, int64_t head_dim) {
  CAPTURE(queries);
  CAPTURE(head_dim);
  const int64_t stride = value_stride(head_dim), score_stride = kBlockTokens + draw(0, 5);
  const Guarded<Element> keys(head_dim * kBlockTokens), values(kBlockTokens * stride);
  const Guarded<Element> q((queries + kQueryPadding) * head_dim);
  const Guarded<float> scores((queries - 1) * score_stride + kBlockTokens);
  const Guarded<float> sums(queries * stride);
  fill(keys);
  fill(values);
  fill(q);
  fill(sums);
  const auto run_scores = [&](const Element* from, int64_t count, float* to) {
    if constexpr (sizeof(Element) == 4)
      k.scores_f32(keys.data(), from, count, head_dim, to, score_stride);
    else
      k.scores_bf16(keys.data(), from, count, head_dim, to, score_stride);
  };
  run_scores(q.data(), queries, scores.data());
  for (int64_t query = 0; query < queries; ++query) {
    const Guarded<float> alone(kBlockTokens);
    run_scores(q.data() + query * head_dim, 1, alone.data());
    CHECK(same_bits(alone.data(), scores.data() + query * score_stride, kBlockTokens));
    for (int64_t token = 0; token < kBlockTokens; ++token) {
      double want = 0;
      for (int64_t i = 0; i < head_dim; ++i)
        want += get(keys[sizeof(Element) == 4 ? i * kBlockTokens + token
                                              : (i / 2 * kBlockTokens + token) * 2 + i % 2]) *
                get(q[query * head_dim + i]);
      CHECK(alone[token] == doctest::Approx(want).epsilon(1e-5).scale(10));
    }
  }

  const int64_t tokens = draw(1, kBlockTokens);
  const std::vector<float> before(sums.begin(), sums.end());
  const auto run_values = [&](int64_t first, int64_t count, const float* p, int64_t many, float* to) {
    if constexpr (sizeof(Element) == 4)
      k.values_f32(values.data() + first * stride, count, stride, p + first, score_stride, many, to);
    else
      k.values_bf16(values.data() + first * stride, count, stride, p + first, score_stride, many, to);
  };
  run_values(0, tokens, scores.data(), queries, sums.data());
  for (int64_t query = 0; query < queries; ++query) {
    const float* const p = scores.data() + query * score_stride;
    std::vector<float> alone(before.begin() + query * stride, before.begin() + (query + 1) * stride);
    const int64_t cut = draw(0, tokens);  // a node may end at any token
    run_values(0, cut, p, 1, alone.data());
    run_values(cut, tokens - cut, p, 1, alone.data());
    CHECK(same_bits(alone.data(), sums.data() + query * stride, stride));
    for (int64_t i = 0; i < stride; ++i) {
      double want = before[query * stride + i];
      for (int64_t token = 0; token < tokens; ++token)
        want += double{p[token]} * get(values[token * stride + i]);
      CHECK(alone[i] == doctest::Approx(want).epsilon(1e-5).scale(10));
    }
  }
}

}  // namespace

TEST_CASE("matmul gives the reference result, and a row has the same bits alone and in a batch") {
  for_each_isa([](const Kernels& k) {
    check_matmul(k, 1, 1, 1);
    for (int i = 0; i < 40; ++i) check_matmul(k, draw(1, 20), draw(1, 23), draw(1, 90));
    check_matmul(k, 41, 6, 5003);  // more rows than one cache block holds
  });
}

TEST_CASE("add and rms_norm give the reference result") {
  for_each_isa([](const Kernels& k) {
    for (int round = 0; round < 40; ++round) {
      const int64_t width = draw(1, 70);
      const Guarded<float> x(width), y(width), weight(width), out(width);
      fill(x, 3);
      fill(y);
      fill(weight);
      const std::vector<float> before(x.begin(), x.end());
      k.add(x.data(), y.data(), width);
      double squares = 0;
      for (int64_t i = 0; i < width; ++i) {
        CHECK(x[i] == before[i] + y[i]);
        squares += double{x[i]} * x[i];
      }
      k.rms_norm(x.data(), weight.data(), 1e-5f, width, out.data());
      for (int64_t i = 0; i < width; ++i)
        CHECK(out[i] == doctest::Approx(x[i] / std::sqrt(squares / width + 1e-5f) * weight[i]).epsilon(2e-6));
    }
  });
}

TEST_CASE("rms_norm of zeros is zero, not NaN") {
  for_each_isa([](const Kernels& k) {
    const std::vector<float> x(5, 0.0f), weight(5, 1.0f);
    std::vector<float> out(5, 9.0f);
    k.rms_norm(x.data(), weight.data(), 1e-5f, 5, out.data());
    for (const float value : out) CHECK(value == 0.0f);
  });
}

TEST_CASE("swiglu gives each element the same bits alone and in an array, for extreme values too") {
  for_each_isa([](const Kernels& k) {
    for (int round = 0; round < 40; ++round) {
      const int64_t count = draw(1, 70);
      const Guarded<float> gate(count), up(count);
      fill(gate, round % 2 == 0 ? 4.0f : 120.0f);
      fill(up);
      const std::vector<float> before(gate.begin(), gate.end());
      k.swiglu(gate.data(), up.data(), count);
      for (int64_t i = 0; i < count; ++i) {
        const double want = before[i] / (1 + std::exp(-double{before[i]})) * up[i];
        CHECK(std::abs(gate[i] - want) <= 3e-6 * std::abs(want) + 1e-35);
        float alone = before[i];
        k.swiglu(&alone, &up[i], 1);
        CHECK(same_bits(&alone, &gate[i], 1));
      }
    }
    float nan = std::numeric_limits<float>::quiet_NaN();
    const float one = 1;
    k.swiglu(&nan, &one, 1);
    CHECK(std::isnan(nan));
  });
}

TEST_CASE("softmax gives the reference result") {
  for_each_isa([](const Kernels& k) {
    for (int round = 0; round < 60; ++round) {
      const int64_t count = draw(1, 100), room = (count + 15) / 16 * 16;
      const Guarded<float> scores(room);
      for (int64_t i = 0; i < count; ++i) scores[i] = uniform() * (round % 3 == 0 ? 200.0f : 8.0f);
      const std::vector<float> before(scores.begin(), scores.begin() + count);
      const float max = *std::max_element(before.begin(), before.end());
      const float total = k.softmax(scores.data(), count);
      double sum = 0;
      for (int64_t i = 0; i < count; ++i) {
        const double want = std::exp(double{before[i] - max});
        CHECK(std::abs(scores[i] - want) <= 2e-7 * want + 1.2e-38);
        sum += want;
      }
      CHECK(total == doctest::Approx(sum).epsilon(2e-6));
    }
  });
}

TEST_CASE("softmax of scores with a NaN is NaN") {
  for_each_isa([](const Kernels& k) {
    std::vector<float> scores(16, 1.0f);
    scores[3] = std::numeric_limits<float>::quiet_NaN();
    CHECK(std::isnan(k.softmax(scores.data(), 5)));
  });
}

TEST_CASE("rotate gives the reference result") {
  for_each_isa([](const Kernels& k) {
    for (int round = 0; round < 20; ++round) {
      const int64_t half = draw(1, 40);
      const Guarded<float> head(half * 2), cos(half), sin(half);
      fill(head);
      fill(cos);
      fill(sin);
      const std::vector<float> before(head.begin(), head.end());
      k.rotate(head.data(), cos.data(), sin.data(), half);
      for (int64_t i = 0; i < half; ++i) {
        const float a = before[i], b = before[half + i];
        CHECK(head[i] == a * cos[i] - b * sin[i]);
        CHECK(head[half + i] == b * cos[i] + a * sin[i]);
      }
    }
  });
}

TEST_CASE(
    "scores and values of one KV block give the reference result, with the same bits alone and in a batch") {
  for_each_isa([](const Kernels& k) {
    for (int round = 0; round < 30; ++round) {
      check_attention<float>(k, draw(1, 9), draw(1, 40) * 2);
      check_attention<uint16_t>(k, draw(1, 9), draw(1, 40) * 2);
    }
  });
}
