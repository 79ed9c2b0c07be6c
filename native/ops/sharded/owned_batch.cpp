#include "ops/sharded/owned_batch.h"

namespace apar {

void OwnedBatch::assign(const StepBatch& batch) {
  const auto copy = [](auto& to, auto from) { to.assign(from.begin(), from.end()); };
  copy(tokens_, batch.tokens);
  copy(positions_, batch.positions);
  copy(slots_, batch.slots);
  copy(path_, batch.path);
  copy(logit_rows_, batch.logit_rows);
  copy(sequences_, batch.sequences);
  copy(nodes_, batch.nodes);
  blocks_.clear();
  for (const KvNodeView& node : nodes_) blocks_.insert(blocks_.end(), node.blocks.begin(), node.blocks.end());
  const int32_t* first = blocks_.data();
  for (KvNodeView& node : nodes_) {
    node.blocks = {first, node.blocks.size()};
    first += node.blocks.size();
  }
  batch_ = {tokens_, positions_, slots_, sequences_, nodes_, path_, logit_rows_};
}

}  // namespace apar
