#include "ops/cuda/emulator/emulated_nccl.h"

#include <algorithm>
#include <memory>
#include <vector>

#include "ops/cuda/emulator/emulate.h"
#include "testing/local_communicator.h"

namespace apar::cuda {
namespace {

struct Group {
  explicit Group(int ranks) : barrier(ranks), from(static_cast<size_t>(ranks)) {}

  AbortableBarrier barrier;
  std::vector<const float*> from;
};

struct Comm {
  std::shared_ptr<Group> group;
  size_t rank;
};

int init_all(Nccl::Comm* comms, int count, const int* /*devices*/) {
  const auto group = std::make_shared<Group>(count);
  for (int rank = 0; rank < count; ++rank) comms[rank] = new Comm{group, static_cast<size_t>(rank)};
  return 0;
}

// Enqueued like a launch, so that a graph captures and replays it.
int all_gather(const void* from, void* to, size_t count, int type, Nccl::Comm comm, void* stream) {
  if (type != Nccl::kFloat32) return 4;  // ncclInvalidArgument
  emulate::enqueue(stream, [=, mine = *static_cast<const Comm*>(comm)] {
    mine.group->from[mine.rank] = static_cast<const float*>(from);
    mine.group->barrier.wait();
    auto* next = static_cast<float*>(to);
    for (const float* const part : mine.group->from) next = std::copy_n(part, count, next);
    mine.group->barrier.wait();
  });
  return 0;
}

int destroy(Nccl::Comm comm) {
  delete static_cast<Comm*>(comm);
  return 0;
}

int abort(Nccl::Comm comm) {
  static_cast<Comm*>(comm)->group->barrier.abort();
  return destroy(comm);
}

}  // namespace

const Nccl& emulated_nccl() {
  static const Nccl nccl = {init_all, all_gather, destroy, abort, [](int) { return "emulated"; }};
  return nccl;
}

}  // namespace apar::cuda
