#pragma once

#include <cstddef>
#include <cstring>
#include <fstream>
#include <string>
#include <vector>

#include "common/matrix.h"
#include "model/quantised_layer.h"

namespace apar::test {

// A layer of test/golden/quantised/layers.txt, and the weights that its codes stand for.
struct GoldenLayer {
  std::string kind;
  std::vector<std::byte> codes;
  QuantisedLayer layer;        // its codes are those above
  std::vector<float> weights;  // [rows, cols]
};

template <class Element>
std::vector<Element> from_hex(const std::string& hex) {
  std::vector<std::byte> bytes;
  if (hex != "-")
    for (size_t i = 0; i < hex.size(); i += 2)
      bytes.push_back(static_cast<std::byte>(std::stoi(hex.substr(i, 2), nullptr, 16)));
  std::vector<Element> elements(bytes.size() / sizeof(Element));
  if (!bytes.empty()) std::memcpy(elements.data(), bytes.data(), bytes.size());
  return elements;
}

inline std::vector<GoldenLayer> read_golden_layers(const char* path) {
  std::ifstream file(path);
  std::vector<GoldenLayer> layers;
  std::string kind, dtype, codes, scales, zeros, groups, weights;
  int64_t rows = 0, cols = 0, block_rows = 0, block_cols = 0;
  int32_t zero_offset = 0;
  while (file >> kind >> dtype >> rows >> cols >> block_rows >> block_cols >> zero_offset >> codes >>
         scales >> zeros >> groups >> weights) {
    GoldenLayer& golden = layers.emplace_back();
    golden.kind = kind;
    golden.codes = from_hex<std::byte>(codes);
    golden.weights = from_hex<float>(weights);
    QuantisedLayer& layer = golden.layer;
    layer = {parse_dtype(dtype),      rows,       cols,
             golden.codes.data(),     block_rows, block_cols,
             from_hex<float>(scales), {},         from_hex<int32_t>(groups)};
    const auto words = from_hex<std::byte>(zeros);
    if (layer.dtype != DType::f8_e4m3)
      layer.zeros =
          unpack_zeros(layer.dtype, words.data(), static_cast<int64_t>(layer.scales.size()), zero_offset);
    if (layer.groups.empty())
      for (int64_t i = 0; i < cols; ++i) layer.groups.push_back(static_cast<int32_t>(i / block_cols));
  }
  return layers;
}

}  // namespace apar::test
