// The number of kernels that a step launches.
#include <doctest/doctest.h>

#include <cstdlib>
#include <numeric>

#include "test/cuda/cuda_model.h"
#include "test/cuda/emulated_model.h"

using namespace apar;
using namespace apar::test;

namespace {

constexpr int32_t kRows = 8;

// The launches of a step that computes the first tokens of a prompt, without logits.
int32_t launches(int32_t layers) {
  const RandomModel random = make_random_model(tensor_core_config({.hidden_size = 64,
                                                                   .intermediate_size = 96,
                                                                   .num_layers = layers,
                                                                   .num_heads = 2,
                                                                   .num_kv_heads = 1}),
                                               3);
  const auto [device, model] = open_emulated(random, 2, kRows);
  std::vector<int32_t> tokens(kRows), rows(kRows);
  std::iota(rows.begin(), rows.end(), 0);
  const std::vector<int32_t> blocks{0}, path{0};
  const std::vector<KvNodeView> nodes{{blocks, 0, kRows}};
  const std::vector<SequenceRows> sequences{{0, kRows, 0, 1, kRows}};
  const int32_t before = device->launches();
  model->forward({tokens, rows, rows, sequences, nodes, path, {}}, {});
  return device->launches() - before;
}

int32_t launches_per_layer(const char* fusion) {
  ::setenv("APAR_CUDA_FUSION", fusion, 1);
  const int32_t more = launches(3) - launches(2);
  ::unsetenv("APAR_CUDA_FUSION");
  return more;
}

}  // namespace

// norm, q k v, rotation and KV pool, attention and its merge, o, norm, gate and up, down
TEST_CASE("a layer takes 9 launches, and one more if SwiGLU has a kernel of its own") {
  CHECK(launches_per_layer("on") == 9);
  CHECK(launches_per_layer("off") == 10);
}
