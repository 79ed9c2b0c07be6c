#pragma once

#include <filesystem>
#include <string>
#include <utility>

#include "common/model_config.h"

namespace apar::test {

// A new directory in the system's temporary directory; the destructor removes it.
class TempDir {
 public:
  TempDir();
  ~TempDir();
  TempDir(TempDir&& other) noexcept : path_(std::exchange(other.path_, {})) {}
  TempDir(const TempDir&) = delete;

  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

// A checkpoint with random weights on disk; its directory is removed with this object.
struct RandomModel {
  TempDir dir;
  ModelConfig config;
  WeightTable weights;
};

// A Llama with grouped-query attention in which no size is a multiple of a vector. With random weights its
// logits differ clearly between tokens.
ModelConfig small_config();
// Heads of this size, wholly rotated.
void set_head_dim(ModelConfig& config, int32_t head_dim, double rope_theta = 10000);
// Adds everything in which other architectures differ from a Llama: biases, head norms, a layer without
// rotation, heads of which a part is rotated, scaled cosines and sines.
ModelConfig with_all_features(ModelConfig config);

// The same config and seed give the same weights. `dtype` is the dtype of the file; bf16 and f16 have the
// rounded f32 values.
RandomModel make_random_model(const ModelConfig& config = small_config(), uint64_t seed = 1,
                              DType dtype = DType::f32);

}  // namespace apar::test
