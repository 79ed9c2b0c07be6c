#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <fstream>
#include <functional>

#include "common/error.h"
#include "common/float16.h"
#include "model/llama.h"
#include "model/weights.h"
#include "test/random_model.h"

using namespace apar;
using namespace apar::test;

namespace {

// Checks the error that open_llama throws for a changed copy of a valid table.
void check_refused(const char* part, const std::function<void(WeightTable&)>& change,
                   ErrorCode code = ErrorCode::invalid_weights) {
  CAPTURE(part);
  const RandomModel random = make_random_model();
  WeightTable table = random.weights;
  change(table);
  try {
    open_llama(random.config, table, WeightFormat::f32, 8, 8, 1);
    FAIL_CHECK("accepted");
  } catch (const Error& error) {
    CHECK(error.code() == code);
    CHECK_MESSAGE(std::string(error.what()).find(part) != std::string::npos, error.what());
  }
}

TensorInfo& tensor(WeightTable& table, const std::string& name) {
  for (TensorInfo& info : table.tensors)
    if (info.name == name) return info;
  throw std::logic_error(name);
}

}  // namespace

TEST_CASE("an invalid tensor is refused and the error names the tensor") {
  const std::string gate = "model.layers.1.mlp.gate_proj.weight",
                    norm = "model.layers.0.input_layernorm.weight";
  check_refused(gate.c_str(), [&](WeightTable& t) { tensor(t, gate).name = "other"; });
  check_refused(gate.c_str(),
                [&](WeightTable& t) { std::swap(tensor(t, gate).shape[0], tensor(t, gate).shape[1]); });
  check_refused(gate.c_str(), [&](WeightTable& t) { tensor(t, gate).shape.push_back(1); });
  check_refused(gate.c_str(), [&](WeightTable& t) { tensor(t, gate).offset = uint64_t{1} << 40; });
  check_refused(gate.c_str(), [&](WeightTable& t) { tensor(t, gate).offset = ~uint64_t{0} - 3; });
  check_refused(gate.c_str(), [&](WeightTable& t) { tensor(t, gate).file = 1; });
  check_refused(gate.c_str(), [&](WeightTable& t) { tensor(t, gate).file = -1; });
  check_refused(gate.c_str(), [&](WeightTable& t) { t.tensors.push_back(tensor(t, gate)); });
  check_refused(norm.c_str(), [&](WeightTable& t) { tensor(t, norm).shape = {1, 36}; });
  check_refused("lm_head.weight", [&](WeightTable& t) { tensor(t, "lm_head.weight").name = "head"; });
}

TEST_CASE("a file that is missing, too short or not a regular file is refused and the error names it") {
  check_refused("/nowhere/at/all", [](WeightTable& t) { t.files[0] = "/nowhere/at/all"; });
  check_refused("not a regular file", [](WeightTable& t) { t.files[0] = "/tmp"; });
  check_refused("lm_head.weight", [](WeightTable& t) {
    std::filesystem::resize_file(t.files[0], std::filesystem::file_size(t.files[0]) - 1);
  });
  check_refused("past the end of its file (0 bytes)",
                [](WeightTable& t) { std::filesystem::resize_file(t.files[0], 0); });
}

TEST_CASE("a negative size in a shape is refused") {
  const RandomModel random = make_random_model();
  WeightTable table = random.weights;
  table.tensors[0].shape = {-1, -1};
  Weights weights(table);
  CHECK_THROWS_AS(weights.matrix(table.tensors[0].name, -1, -1, DType::f32), Error);
}

TEST_CASE("a tensor of the requested dtype is not copied, any other is converted") {
  const TempDir dir;
  const std::string path = (dir.path() / "w.bin").string();
  const float values[] = {1.0f, -0.5f, 3.14159265f, 65504.0f, 1e-6f, 0.0f};
  std::ofstream(path, std::ios::binary).write(reinterpret_cast<const char*>(values), sizeof values);
  const WeightTable table = {{path}, {{"a", 0, 0, DType::f32, {2, 3}}, {"b", 0, 4, DType::f32, {5}}}};
  Weights weights(table);
  const Matrix same = weights.matrix("a", 2, 3, DType::f32);
  CHECK(std::memcmp(same.data, values, sizeof values) == 0);
  CHECK(weights.matrix("a", 2, 3, DType::f32).data == same.data);
  const Matrix rounded = weights.matrix("a", 2, 3, DType::bf16);
  CHECK(rounded.dtype == DType::bf16);
  for (int i = 0; i < 6; ++i) CHECK(static_cast<const uint16_t*>(rounded.data)[i] == f32_to_bf16(values[i]));
  const Matrix vector = weights.vector("b", 5);
  CHECK(vector.rows == 1);
  CHECK(static_cast<const float*>(vector.data)[4] == values[5]);
}

TEST_CASE("a tensor that is not aligned to its elements is copied") {
  const TempDir dir;
  const std::string path = (dir.path() / "w.bin").string();
  const float values[] = {1.0f, -0.5f, 3.140625f, 65504.0f, 1e-6f, 0.0f};
  std::ofstream(path, std::ios::binary)
      .write("x", 1)
      .write(reinterpret_cast<const char*>(values), sizeof values);
  const WeightTable table = {{path}, {{"a", 0, 1, DType::f32, {2, 3}}, {"b", 0, 5, DType::f32, {5}}}};
  Weights weights(table);
  const auto is_copy = [&](const Matrix& matrix) {
    const bool aligned = reinterpret_cast<uintptr_t>(matrix.data) % alignof(float) == 0;
    return aligned && std::memcmp(matrix.data, values, sizeof values) == 0;
  };
  CHECK(is_copy(weights.matrix("a", 2, 3, DType::f32)));
  const StoredMatrix stored = weights.stored("a", 2, 3);
  CHECK(stored.copy);
  CHECK(is_copy(stored.matrix));
  CHECK(static_cast<const uint16_t*>(weights.matrix("a", 2, 3, DType::bf16).data)[2] ==
        f32_to_bf16(values[2]));
  CHECK(static_cast<const float*>(weights.vector("b", 5).data)[1] == values[2]);
  check_refused("past the end", [](WeightTable& t) { tensor(t, "lm_head.weight").offset += 1; });
}

TEST_CASE("f16 and bf16 conversions") {
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    const auto half = static_cast<uint16_t>(bits);
    const int exponent = (bits >> 10) & 31, mantissa = bits & 1023;
    const float value = f16_to_f32(half);
    if (exponent == 31) {
      CHECK((mantissa == 0 ? std::isinf(value) : std::isnan(value)));
    } else {
      const double magnitude =
          exponent == 0 ? std::ldexp(mantissa, -24) : std::ldexp(1024 + mantissa, exponent - 25);
      REQUIRE(value == (bits & 0x8000 ? -magnitude : magnitude));
    }
    REQUIRE(std::signbit(value) == ((bits & 0x8000) != 0));
    const float wide = bf16_to_f32(half);
    if (!std::isnan(wide)) REQUIRE(f32_to_bf16(wide) == half);
  }
  CHECK(f32_to_bf16(1.00390625f) == 0x3f80);  // a tie: rounds to the even value below
  CHECK(f32_to_bf16(1.01171875f) == 0x3f82);  // a tie: rounds to the even value above
  CHECK(f32_to_bf16(3.4e38f) == 0x7f80);      // rounds up to infinity
  CHECK(std::isnan(bf16_to_f32(f32_to_bf16(std::bit_cast<float>(0x7f800001u)))));
}
