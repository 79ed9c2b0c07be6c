#pragma once

// Products of random packed layers, for the tests of all gemm kernels.

#include <doctest/doctest.h>

#include <algorithm>
#include <cstring>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "common/float8.h"
#include "ops/cuda/gemm/gemm.h"
#include "ops/cuda/gemm/weight_tiles.h"
#include "test/coded_model.h"
#include "test/cuda/device_array.h"
#include "test/cuda/either_order.h"
#include "test/cuda/mismatches.h"
#include "test/cuda/open_device.h"

namespace apar::test {

using namespace cuda;

constexpr WeightFormat kPackedFormats[] = {WeightFormat::bf16, WeightFormat::f16,  WeightFormat::fp8,
                                           WeightFormat::int8, WeightFormat::int4, WeightFormat::int4_g128};

struct Layer {
  int32_t outs = 0;
  std::vector<float> kept;  // [outs, in], the values that the packed weights represent
  std::vector<std::byte> packed;
  std::vector<float> bias;                  // [outs], or empty
  std::vector<uint16_t> group_scales = {};  // of a layer with scales and zero points of its own (LongGroups)
  std::vector<uint8_t> group_zeros = {};

  Matrix matrix() const {
    const LongGroups groups = {group_scales.data(), group_zeros.data(), outs};
    return {kept.data(), DType::f32,
            outs,        static_cast<int64_t>(kept.size()) / outs,
            nullptr,     group_scales.empty() ? LongGroups{} : groups};
  }
};

inline void pack_all(const Matrix& host, WeightFormat format, std::vector<std::byte>& packed) {
  packed.resize(tiled_bytes(host.rows, host.cols, format));
  const int32_t tiles = tiles_of(host.rows, kTileOuts);
  for (int32_t tile = 0; tile < tiles; ++tile)
    pack_tiles(host, format, tile, packed.data() + tile * tile_row_bytes(host.cols, format));
}

// A layer whose values are chosen so that packing keeps them exactly. They are small integers times a power
// of two per 32 or 128 inputs, and the largest integer of the format is among them (f16: integers of 11 bits,
// three more than bf16 has). For fp8 they are e4m3 numbers times one power of two, the largest e4m3 among
// them. A `coded` layer has scales and zero points of its own instead.
inline Layer random_layer(std::mt19937& random, WeightFormat format, int32_t outs, int32_t in,
                          bool coded = false) {
  Layer layer;
  layer.outs = outs;
  if (random() % 2 == 0) layer.bias = random_floats(random, static_cast<size_t>(outs), 4);
  if (coded) {
    const CodedLayer source(random, DType::awq_4, outs, in);
    layer.kept = source.weights;
    layer.group_scales = source.scales;
    layer.group_zeros = source.zeros;
    pack_all(layer.matrix(), format, layer.packed);
    return layer;
  }
  const bool int4 = format == WeightFormat::int4 || format == WeightFormat::int4_g128;
  const int32_t largest = int4 ? 7 : format == WeightFormat::f16 ? 2047 : 127;
  const int32_t group = format == WeightFormat::int4_g128 ? 128 : 32;
  for (int32_t out = 0; out < outs; ++out) {
    float scale = std::ldexp(1.0f, -8 - static_cast<int>(random() % 3));
    for (int32_t k = 0; k < in; ++k) {
      if (format == WeightFormat::fp8) {
        const auto bits = static_cast<uint8_t>(k == 0 ? 0x7e : random() % 0x7f | (random() & 0x80));
        layer.kept.push_back(e4m3_to_f32(bits) * scale);
        continue;
      }
      if (k % group == 0) scale = std::ldexp(1.0f, -6 - static_cast<int>(random() % 3));
      auto integer = static_cast<int32_t>(random() % (2 * largest + 1)) - largest;
      if (k % group == 0) integer = int4 ? -8 : largest;
      if (k % group == 1 && int4) integer = largest;  // int4_g128 takes its scale from both ends
      layer.kept.push_back(static_cast<float>(integer) * scale);
    }
  }
  pack_all(layer.matrix(), format, layer.packed);
  return layer;
}

inline std::vector<Layer> random_layers(std::mt19937& random, WeightFormat format,
                                        const std::vector<int32_t>& outs, int32_t in) {
  std::vector<Layer> layers;
  const bool coded = format == WeightFormat::int4_g128 && random() % 2 == 0;
  for (const int32_t each : outs) layers.push_back(random_layer(random, format, each, in, coded));
  return layers;
}

// Inputs x[rows, in] that bf16 represents exactly.
inline std::vector<float> random_inputs(std::mt19937& random, int32_t rows, int32_t in) {
  std::vector<float> x = random_floats(random, static_cast<size_t>(rows) * in);
  for (float& value : x) value = bf16_to_f32(f32_to_bf16(value));
  return x;
}

struct ProductCase {
  WeightFormat format = WeightFormat::bf16;
  int32_t rows = 1;
  int32_t in = 8;
  std::vector<int32_t> outs;
  int32_t multiprocessors = 6;
  cuda::GemmBackend backend = cuda::GemmBackend::mma;
};

// The plan and the intermediate results of a call.
struct ProductTrace {
  GemmPlan plan;
  int32_t tiles = 0;            // of all layers
  std::vector<float> partials;  // [split][row][tiles * kTileOuts], empty if no partial sums were stored
};

inline const float* bias_on(cuda::Device& device, const Layer& layer) {
  return layer.bias.empty() ? nullptr : DeviceArray<float>(device, layer.bias).data();
}

// Runs the product with scratch memory of its own. Returns the partial sums that it stored.
inline std::vector<float> multiply_packed(cuda::Device& device, cuda::GemmCall call, WeightFormat format,
                                          const cuda::GemmPlan& plan) {
  const int64_t floats = cuda::partial_floats(plan, call.rows, call.tiles);
  const DeviceArray<float> partials(device, static_cast<size_t>(std::max<int64_t>(1, floats)));
  const std::vector<int32_t> zeros(
      static_cast<size_t>(call.tiles) * cuda::tiles_of(call.rows, plan.tile_rows), 0);
  const DeviceArray<int32_t> arrived(device, zeros);
  call.partials = partials.data();
  call.arrived = arrived.data();
  cuda::packed_gemm(device.stream(), call, format, plan);
  CHECK(arrived.get() == zeros);  // the next call needs zeros
  return floats > 0 ? partials.get() : std::vector<float>{};
}

// The products of all rows of x with each layer, and its bias, computed with the plan for that number of
// rows unless one is given.
inline std::vector<std::vector<float>> packed_products(cuda::Device& device, const ProductCase& shape,
                                                       const std::vector<Layer>& layers,
                                                       std::span<const float> x,
                                                       ProductTrace* trace = nullptr,
                                                       const GemmPlan* given = nullptr) {
  const auto rows = static_cast<int32_t>(x.size()) / shape.in;
  GemmCall call;
  std::vector<DeviceArray<std::byte>> weights;
  std::vector<DeviceArray<float>> outs;
  for (const Layer& layer : layers) {
    weights.emplace_back(device, layer.packed);
    outs.emplace_back(device, static_cast<size_t>(rows) * layer.outs);
    call.projections[call.num_projections++] = {weights.back().data(), outs.back().data(), layer.outs,
                                                call.tiles, bias_on(device, layer)};
    call.tiles += tiles_of(layer.outs, kTileOuts);
  }
  const std::vector<float> x_copy(x.begin(), x.end());
  const DeviceArray<float> x_f32(device, x_copy);
  const DeviceArray<uint16_t> x_bf16(device, to_bf16(x_copy));
  call.rows = rows;
  call.in = shape.in;
  call.x = x_f32.data();
  call.x_bf16 = x_bf16.data();
  const GemmPlan plan = given != nullptr
                            ? *given
                            : plan_gemm(rows, call.tiles, tiles_of(shape.in, kTileInputs), shape.format,
                                        {shape.multiprocessors, device.info().capability, shape.backend});
  std::vector<float> partials = multiply_packed(device, call, shape.format, plan);
  std::vector<std::vector<float>> results;
  for (const auto& out : outs) results.push_back(out.get());
  if (trace != nullptr) *trace = {plan, call.tiles, std::move(partials)};
  return results;
}

// A dot product over some of the inputs in double precision, and the sum of the magnitudes of its terms.
struct ExactSum {
  double value = 0, size = 0;
};
inline ExactSum exact_sum(std::span<const float> x, std::span<const float> weights) {
  ExactSum sum;
  for (size_t k = 0; k < x.size(); ++k) {
    const double product = double{x[k]} * weights[k];
    sum.value += product;
    sum.size += std::abs(product);
  }
  return sum;
}

constexpr double kProductTolerance = 1e-6;  // of the sum of magnitudes

// Reports which splits of layer `index` have wrong partial sums. The partial sums of an fp8 layer are not
// scaled yet, so they cannot be compared.
inline void find_wrong_splits(Mismatches& wrong, const ProductCase& shape, const std::vector<Layer>& layers,
                              size_t index, std::span<const float> x, const ProductTrace& trace) {
  if (shape.format == WeightFormat::fp8) return;
  int32_t first_tile = 0;
  for (size_t i = 0; i < index; ++i) first_tile += tiles_of(layers[i].outs, kTileOuts);
  const int32_t k_tiles = tiles_of(shape.in, kTileInputs);
  const auto width = static_cast<size_t>(trace.tiles) * kTileOuts;
  for (int32_t split = 0; split < trace.plan.splits && !trace.partials.empty(); ++split) {
    const int32_t begin = k_tiles * split / trace.plan.splits * kTileInputs;
    const int32_t end = std::min(k_tiles * (split + 1) / trace.plan.splits * kTileInputs, shape.in);
    int64_t count = 0;
    for (int32_t row = 0; row < shape.rows; ++row) {
      for (int32_t out = 0; out < layers[index].outs; ++out) {
        const ExactSum want = exact_sum(
            x.subspan(static_cast<size_t>(row) * shape.in + begin, end - begin),
            std::span(layers[index].kept).subspan(static_cast<size_t>(out) * shape.in + begin, end - begin));
        const size_t at = (static_cast<size_t>(split) * shape.rows + row) * width +
                          static_cast<size_t>(first_tile) * kTileOuts + out;
        count += !(std::abs(trace.partials[at] - want.value) <= kProductTolerance * want.size);
      }
    }
    if (count > 0) wrong.part_is_wrong("split " + std::to_string(split), count);
  }
}

// An output with its bias.
inline ExactSum exact_output(const Layer& layer, int32_t out, std::span<const float> x) {
  ExactSum sum = exact_sum(x, std::span(layer.kept).subspan(static_cast<size_t>(out) * x.size(), x.size()));
  if (layer.bias.empty()) return sum;
  sum.value += layer.bias[out];
  sum.size += std::abs(layer.bias[out]);
  return sum;
}

inline std::string product_name(const ProductCase& shape, const Layer& layer, const GemmPlan& plan) {
  constexpr const char* kKernels[] = {"stream", "mma", "wgmma", "cublaslt"};
  return std::string("gemm_") + kKernels[static_cast<int>(plan.kernel)] + " " + to_string(shape.format) +
         " rows " + std::to_string(shape.rows) + " in " + std::to_string(shape.in) + " outs " +
         std::to_string(layer.outs) + " splits " + std::to_string(plan.splits) +
         (plan.sequential ? " sequential" : "");
}

inline void check_products(std::mt19937& random, const ProductCase& shape) {
  CAPTURE(std::string(to_string(shape.format)));
  CAPTURE(shape.rows);
  CAPTURE(shape.in);
  CAPTURE(shape.outs);
  const auto device = cuda::open_test_device();
  const std::vector<Layer> layers = random_layers(random, shape.format, shape.outs, shape.in);
  const std::vector<float> x = random_inputs(random, shape.rows, shape.in);

  ProductTrace trace;
  const auto got = in_either_order([&] { return packed_products(*device, shape, layers, x, &trace); });
  for (size_t i = 0; i < layers.size(); ++i) {
    const Layer& layer = layers[i];
    Mismatches wrong(product_name(shape, layer, trace.plan), trace.plan.tile_rows, kTileOuts);
    for (int32_t row = 0; row < shape.rows; ++row) {
      for (int32_t out = 0; out < layer.outs; ++out) {
        const ExactSum want =
            exact_output(layer, out, std::span(x).subspan(static_cast<size_t>(row) * shape.in, shape.in));
        wrong.compare(row, out, got[i][row * layer.outs + out], want.value, kProductTolerance * want.size);
      }
    }
    if (wrong.wrong() > 0) find_wrong_splits(wrong, shape, layers, i, x, trace);
    CHECK(wrong.check());
  }
  // A row alone has the same bits as among other rows, even though another kernel may compute it.
  const int32_t row = static_cast<int32_t>(random() % shape.rows);
  const auto alone = packed_products(*device, shape, layers, std::span(x).subspan(row * shape.in, shape.in));
  for (size_t i = 0; i < layers.size(); ++i) {
    Mismatches other("row " + std::to_string(row) + " alone, against the same row in " +
                         product_name(shape, layers[i], trace.plan),
                     1, kTileOuts);
    other.same(alone[i], std::span(got[i]).subspan(static_cast<size_t>(row) * layers[i].outs, layers[i].outs),
               layers[i].outs);
    CHECK(other.check());
  }
}

}  // namespace apar::test
