#pragma once

#include <filesystem>
#include <string>
#include <utility>

#include "common/model_config.h"

namespace apar::test {

// A directory of its own below the system's temporary one, removed with the object.
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

// A checkpoint of random weights on disk, for as long as this object lives.
struct RandomModel {
  TempDir dir;
  ModelConfig config;
  WeightTable weights;
};

// A shape in which nothing is a multiple of a vector and heads share KV heads; its logits differ clearly from
// token to token.
ModelConfig small_config();

// The same config and seed give the same weights; dtype is that of the file (bf16 and f16 hold the rounded
// f32 values).
RandomModel make_random_model(const ModelConfig& config = small_config(), uint64_t seed = 1,
                              DType dtype = DType::f32);

}  // namespace apar::test
