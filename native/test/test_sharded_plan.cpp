// The part of a model that each device holds.
#include <doctest/doctest.h>

#include <functional>
#include <numeric>
#include <vector>

#include "common/error.h"
#include "ops/sharded/sharded_plan.h"

using namespace apar;

namespace {

OpsConfig llama_70b() {
  OpsConfig config;
  config.num_layers = 80;
  config.num_heads = 64;
  config.num_kv_heads = 8;
  config.head_dim = 128;
  config.num_blocks = 100;
  config.max_rows = 512;
  config.max_context = 4096;
  config.max_inputs = 28672;
  config.hidden_size = 8192;
  config.intermediate_size = 28672;
  config.vocab_size = 32000;
  return config;
}

constexpr Axis kAxes[] = {Axis::heads, Axis::kv_heads, Axis::intermediate, Axis::vocabulary};

// Checks that the plan is refused and that the error names the field.
void check_refused(const char* field, const std::function<void(OpsConfig&)>& change, int32_t ranks) {
  CAPTURE(field);
  OpsConfig config = llama_70b();
  change(config);
  try {
    const ShardPlan plan(config, ranks);
    FAIL_CHECK("accepted");
  } catch (const Error& error) {
    CHECK(error.code() == ErrorCode::invalid_config);
    CHECK_MESSAGE(std::string(error.what()).find(field) != std::string::npos, error.what());
  }
}

}  // namespace

TEST_CASE("the parts of an axis are consecutive and cover it") {
  for (const int32_t ranks : {1, 2, 4, 8}) {
    const ShardPlan plan(llama_70b(), ranks);
    for (const Axis axis : kAxes) {
      int64_t end = 0;
      for (int32_t rank = 0; rank < ranks; ++rank) {
        const Range part = plan.shard(axis, plan.size(axis), rank);
        CHECK(part.begin == end);
        CHECK(part.size() >= plan.size(axis) / ranks);
        CHECK(part.size() <= plan.size(axis) / ranks + 1);
        end = part.end;
      }
      CHECK(end == plan.size(axis));
    }
    CHECK(plan.shard(Axis::whole, 77, ranks - 1).begin == 0);
    CHECK(plan.shard(Axis::whole, 77, ranks - 1).end == 77);
  }
}

TEST_CASE("a rank has whole heads and the KV heads that its query heads use") {
  for (const int32_t kv_heads : {1, 2, 4, 8, 16, 64}) {
    for (const int32_t ranks : {1, 2, 4, 8}) {
      OpsConfig config = llama_70b();
      config.num_kv_heads = kv_heads;
      const ShardPlan plan(config, ranks);
      const int32_t group = config.num_heads / kv_heads;
      for (int32_t rank = 0; rank < ranks; ++rank) {
        const OpsConfig mine = plan.config_of(rank);
        const Range heads = plan.shard(Axis::heads, plan.size(Axis::heads), rank);
        const Range kv = plan.shard(Axis::kv_heads, plan.size(Axis::kv_heads), rank);
        REQUIRE(heads.begin % config.head_dim == 0);
        REQUIRE(kv.begin % config.head_dim == 0);
        CHECK(mine.num_heads == 64 / ranks);
        CHECK(mine.num_kv_heads == std::max(1, kv_heads / ranks));
        CHECK(heads.size() == int64_t{mine.num_heads} * config.head_dim);
        CHECK(kv.size() == int64_t{mine.num_kv_heads} * config.head_dim);
        // Local head h uses local KV head h / local_group, which must be the same one as in the whole model.
        const int32_t local_group = mine.num_heads / mine.num_kv_heads;
        for (int32_t head = 0; head < mine.num_heads; ++head) {
          const int64_t global = heads.begin / config.head_dim + head;
          CHECK(kv.begin / config.head_dim + head / local_group == global / group);
        }
      }
    }
  }
}

TEST_CASE("the device of a rank is opened with the sizes of its part") {
  const ShardPlan plan(llama_70b(), 8);
  const OpsConfig mine = plan.config_of(7);
  CHECK(mine.intermediate_size == 3584);
  CHECK(mine.vocab_size == 4000);
  CHECK(mine.hidden_size == 8192);
  CHECK(mine.num_blocks == 100);
  CHECK(mine.max_rows == 512);
}

TEST_CASE("a vocabulary of any size can be divided") {
  OpsConfig config = llama_70b();
  config.vocab_size = 32003;
  const ShardPlan plan(config, 4);
  int64_t sum = 0;
  for (int32_t rank = 0; rank < 4; ++rank) sum += plan.config_of(rank).vocab_size;
  CHECK(sum == 32003);
}

TEST_CASE("sizes that cannot be divided are refused and the error names the field") {
  check_refused(
      "num_heads", [](OpsConfig& c) { c.num_heads = c.num_kv_heads = 6; }, 4);
  check_refused(
      "num_kv_heads", [](OpsConfig& c) { c.num_heads = 12, c.num_kv_heads = 3; }, 2);
  check_refused(
      "intermediate_size", [](OpsConfig& c) { c.intermediate_size = 11010; }, 4);
  check_refused(
      "vocab_size", [](OpsConfig& c) { c.vocab_size = 3; }, 4);
  CHECK_THROWS_AS(ShardPlan(llama_70b(), 0), Error);
  const ShardPlan plan(llama_70b(), 2);
  CHECK_THROWS_AS(plan.shard(Axis::heads, 4096, 0), Error);
  CHECK_THROWS_AS(plan.size(Axis::whole), Error);
}

TEST_CASE("parts of a matrix") {
  std::vector<float> values(6 * 10);
  std::iota(values.begin(), values.end(), 0.0f);
  const Matrix host = {values.data(), DType::f32, 6, 10};
  const MatrixShard rows = shard_of(host, {2, 5}, {0, 10});
  CHECK(rows.copy.empty());  // a view into the whole matrix
  CHECK(rows.matrix.data == values.data() + 20);
  CHECK(rows.matrix.rows == 3);
  const MatrixShard cols = shard_of(host, {0, 6}, {4, 7});
  const auto* const copied = static_cast<const float*>(cols.matrix.data);
  CHECK(cols.matrix.cols == 3);
  for (int row = 0; row < 6; ++row)
    for (int col = 0; col < 3; ++col) CHECK(copied[row * 3 + col] == values[row * 10 + col + 4]);
  std::vector<uint16_t> halves(8);
  std::iota(halves.begin(), halves.end(), uint16_t{0});
  const MatrixShard corner = shard_of({halves.data(), DType::bf16, 2, 4}, {1, 2}, {1, 3});
  CHECK(static_cast<const uint16_t*>(corner.matrix.data)[0] == 5);
  CHECK(static_cast<const uint16_t*>(corner.matrix.data)[1] == 6);
}
