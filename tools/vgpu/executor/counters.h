// Counting what a kernel does. Lanes run one after another, so that the accesses of one warp instruction are put
// together by (instruction, how often the lane has executed it since the last barrier).
#pragma once

#include <memory>
#include <unordered_map>
#include <vector>

#include "tools/vgpu/device/thread.h"
#include "tools/vgpu/kernel.h"

namespace vgpu::device {

class Executor;

class CounterStore {
  public:
    bool begin_launch(Executor& e);  // true if counting is on
    void end_launch(Executor& e);
    void end_group(Executor& e);  // all threads are at the same place: what is open is complete
    void global(Executor& e, Thread& t, U64 address, U32 size, U32 site, bool write);
    void shared(Executor& e, Thread& t, U32 address, U32 size, U32 site);

  private:
    struct GlobalRequest {
        U64 base = 0, bits = 0;  // sectors base .. base + 63
        std::vector<U64> more;   // the others
    };
    struct SharedRequest {
        U32 mask = 0, size = 0;
        U32 address[32] = {};
    };
    struct Open {
        bool is_shared = false, write = false;
        U32 executed[32] = {};
        std::vector<GlobalRequest> global;
        std::vector<SharedRequest> shared;
    };
    struct Touched {
        std::vector<U64> read, written;  // a bit per byte
    };
    Open& open(Executor& e, Thread& t, U32 site);
    void close(Open& o);

    std::unordered_map<U64, Open> open_;  // by warp and site
    std::unordered_map<const void*, Touched> touched_;
    Counters counters_;
};

}  // namespace vgpu::device
