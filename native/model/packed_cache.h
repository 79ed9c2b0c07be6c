#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "common/model_config.h"
#include "model/mapped_file.h"

namespace apar {

// A device's packed linear layers of one checkpoint, kept in a file beside it, so that the next start maps
// them instead of quantising again: FOLDER/.apar/LAYOUT-FORMAT.bin, FOLDER being that of the first weight
// file.
//
// The file begins with a text of all it was made from: sizes and times of the weight files, the tensor table,
// the layers and their sizes. Anything else there, or another length of the file, and it counts as missing.
// It is written under another name, synced and renamed, so no half of it is ever found.
class PackedCache {
 public:
  struct Layer {
    std::string name;
    size_t bytes = 0;
  };

  // `layout` names the device's layout and its version.
  PackedCache(const WeightTable& table, const std::string& layout, WeightFormat format,
              std::vector<Layer> layers);

  // The layers in their order, each at a multiple of 64 bytes, valid as long as this object; empty when there
  // is no such file.
  std::vector<const std::byte*> find();

  // Writes the layers for the next start. A folder that cannot be written means no cache, not a failure.
  void keep(std::span<const std::byte* const> layers) const;

 private:
  std::string description_;
  std::string path_;
  std::vector<Layer> layers_;
  std::vector<MappedFile> mapped_;  // one, once found
};

}  // namespace apar
