#include "model/packed_cache.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <limits>
#include <sstream>
#include <string_view>
#include <system_error>

#include "common/error.h"

namespace apar {
namespace {

constexpr size_t kPage = 4096;  // the layers begin at a multiple of this

constexpr size_t aligned(size_t bytes) {
  return (bytes + 63) / 64 * 64;
}

// The description at the beginning of the file, padded with spaces to whole pages.
std::string describe(const WeightTable& table, const std::string& layout, WeightFormat format,
                     std::span<const PackedCache::Layer> layers) {
  std::ostringstream out;
  out.precision(std::numeric_limits<float>::max_digits10);
  out << "apar packed weights 1\nlayout " << layout << "\nformat " << to_string(format) << "\n";
  for (const std::string& file : table.files) {
    struct stat status = {};
    ::stat(file.c_str(), &status);
    out << "file " << status.st_size << " " << status.st_mtim.tv_sec << " " << status.st_mtim.tv_nsec << "\n";
  }
  for (const TensorInfo& tensor : table.tensors) {
    out << "tensor " << tensor.name << " " << tensor.file << " " << tensor.offset << " "
        << static_cast<int>(tensor.dtype);
    for (const int64_t size : tensor.shape) out << " " << size;
    if (tensor.quantised) {
      const auto& [outputs, inputs, scales, zeros, groups, offset] = *tensor.quantised;
      out << " codes " << outputs << " " << inputs << " " << scales << " " << zeros << " " << groups << " "
          << offset;
    }
    if (tensor.lora) out << " lora " << tensor.lora->scale << (tensor.lora->transposed ? " transposed" : "");
    for (const int32_t row : tensor.replaced_rows) out << " row " << row;
    out << "\n";
  }
  for (const PackedCache::Layer& layer : layers) out << "layer " << layer.name << " " << layer.bytes << "\n";
  std::string text = out.str();
  text.resize((text.size() + kPage) / kPage * kPage, ' ');
  return text;
}

// A file that is removed again unless rename_to() succeeds.
class NewFile {
 public:
  explicit NewFile(const std::string& path)
      : path_(path), descriptor_(::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644)) {}
  ~NewFile() {
    if (descriptor_ < 0) return;
    ::close(descriptor_);
    if (!renamed_) ::unlink(path_.c_str());
  }
  NewFile(const NewFile&) = delete;

  bool write(const void* data, size_t bytes) {
    const auto* from = static_cast<const char*>(data);
    while (descriptor_ >= 0 && bytes > 0) {
      const ssize_t written = ::write(descriptor_, from, bytes);
      if (written <= 0) return false;
      from += written;
      bytes -= static_cast<size_t>(written);
    }
    return descriptor_ >= 0;
  }

  bool rename_to(const std::string& path) {
    renamed_ = ::fsync(descriptor_) == 0 && ::rename(path_.c_str(), path.c_str()) == 0;
    return renamed_;
  }

 private:
  std::string path_;
  int descriptor_;
  bool renamed_ = false;
};

}  // namespace

PackedCache::PackedCache(const WeightTable& table, const std::string& layout, WeightFormat format,
                         std::vector<Layer> layers)
    : description_(describe(table, layout, format, layers)), layers_(std::move(layers)) {
  const std::string last = table.files.empty() ? "" : table.files.back();
  const auto folder = std::filesystem::path(last).parent_path() / ".apar";
  path_ = (folder / (layout + "-" + to_string(format) + ".bin")).string();
}

std::vector<const std::byte*> PackedCache::load() {
  size_t total = description_.size();
  for (const Layer& layer : layers_) total += aligned(layer.bytes);
  try {
    MappedFile file(path_);
    const auto bytes = file.bytes();
    if (bytes.size() != total || std::memcmp(bytes.data(), description_.data(), description_.size()) != 0)
      return {};
    ::madvise(const_cast<std::byte*>(bytes.data()), bytes.size(), MADV_WILLNEED);
    mapped_.push_back(std::move(file));
  } catch (const Error&) {
    return {};
  }
  std::vector<const std::byte*> loaded;
  const std::byte* next = mapped_.back().bytes().data() + description_.size();
  for (const Layer& layer : layers_) {
    loaded.push_back(next);
    next += aligned(layer.bytes);
  }
  return loaded;
}

namespace {

constexpr std::string_view kPartSuffix = ".part";

// Removes what processes that were killed while they saved `path` have left: PATH.PID.part.
void remove_abandoned_parts(const std::filesystem::path& path) {
  const std::string prefix = path.filename().string() + ".";
  std::error_code ignored;
  for (const auto& entry : std::filesystem::directory_iterator(path.parent_path(), ignored)) {
    const std::string name = entry.path().filename().string();
    if (!name.starts_with(prefix) || !name.ends_with(kPartSuffix)) continue;
    const int pid = std::atoi(name.c_str() + prefix.size());
    if (pid > 0 && ::kill(pid, 0) != 0 && errno == ESRCH) std::filesystem::remove(entry.path(), ignored);
  }
}

}  // namespace

void PackedCache::save(std::span<const std::byte* const> layers) const {
  const auto folder = std::filesystem::path(path_).parent_path();
  if (::mkdir(folder.c_str(), 0755) != 0 && errno != EEXIST) return;
  remove_abandoned_parts(path_);
  NewFile file(path_ + "." + std::to_string(::getpid()) + std::string(kPartSuffix));
  bool good = file.write(description_.data(), description_.size());
  const char padding[64] = {};
  for (size_t i = 0; good && i < layers.size(); ++i) {
    const size_t bytes = layers_[i].bytes;
    good = file.write(layers[i], bytes) && file.write(padding, aligned(bytes) - bytes);
  }
  if (good) file.rename_to(path_);
}

}  // namespace apar
