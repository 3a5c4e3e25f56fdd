#pragma once
// What the kernels that call oneDNN share. Included by .cpp files only.

#include <omp.h>

#include <cstdint>
#include <dnnl.hpp>
#include <string>

#include "kernels/common/context.h"
#include "kernels/common/error.h"
#include "kernels/common/plan_cache.h"

namespace ito::kernels {

/// While it lives, OpenMP regions started by this thread (oneDNN's) have one thread. oneDNN reads the number
/// of threads both when a primitive is created, to choose its blocking, and when it runs; results may depend
/// on it, so both happen inside such a scope or inside parallel_for.
class OneThread {
  public:
    OneThread() : before_(omp_get_max_threads()) { omp_set_num_threads(1); }
    ~OneThread() { omp_set_num_threads(before_); }
    OneThread(const OneThread&) = delete;
    OneThread& operator=(const OneThread&) = delete;

  private:
    int before_;
};

/// For a launcher's handler: oneDNN's exception, which names no op, as ito's.
[[noreturn]] inline void refuse(const char* op, const dnnl::error& error) {
    throw Error(std::string(op) + ": oneDNN: " + error.what() + " (status " +
                std::to_string(static_cast<int>(error.status)) + ")");
}

/// The context's plan cache, or one that lives as long as the launch.
class Plans {
  public:
    explicit Plans(const Context& context) : cache_(context.plans ? *context.plans : local_) {}

    template <class Plan, class Key>
    Plan& get(const char* kind, const Key& key) {
        return cache_.get<Plan>(kind, key, [&] {
            const OneThread one_thread;
            return std::make_shared<Plan>(key);
        });
    }

  private:
    PlanCache local_;
    PlanCache& cache_;
};

inline dnnl::engine cpu_engine() {
    return dnnl::engine(dnnl::engine::kind::cpu, 0);
}

/// Scratch is passed in at execution, which lets several threads run one primitive at once.
inline dnnl::primitive_attr user_scratchpad() {
    dnnl::primitive_attr attributes;
    attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
    return attributes;
}

/// A oneDNN view of memory that this project owns. oneDNN's handles are not const; sources are only read.
inline dnnl::memory view(const dnnl::memory::desc& layout, const dnnl::engine& engine, const void* data) {
    return dnnl::memory(layout, engine, const_cast<void*>(data));
}

}  // namespace ito::kernels
