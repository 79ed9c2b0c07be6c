#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "common/model_config.h"
#include "model/mapped_file.h"

namespace apar {

// A file with the packed linear layers of one checkpoint, so that the next start maps them instead of
// quantising again: FOLDER/.apar/LAYOUT-FORMAT.bin, where FOLDER is the folder of the last weight file: the
// checkpoint's, or the adapter's that is merged into it.
//
// The file begins with a text that describes its sources: sizes and modification times of the weight files,
// the tensor table, the layers and their sizes. A file with another description or another length is ignored.
// It is written under a temporary name, synced and renamed, so a partly written file is never read.
class PackedCache {
 public:
  struct Layer {
    std::string name;
    size_t bytes = 0;
  };

  // `layout` is the name and version of the device's layout (Ops::packed_layout()).
  PackedCache(const WeightTable& table, const std::string& layout, WeightFormat format,
              std::vector<Layer> layers);

  // Maps the file and returns the layers in order, each aligned to 64 bytes, valid for the lifetime of this
  // object; empty if there is no valid file.
  std::vector<const std::byte*> load();

  // Writes the file for the next start. If the folder is not writable, it does nothing.
  void save(std::span<const std::byte* const> layers) const;

 private:
  std::string description_;
  std::string path_;
  std::vector<Layer> layers_;
  std::vector<MappedFile> mapped_;  // one file after a successful load()
};

}  // namespace apar
