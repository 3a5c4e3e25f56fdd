#pragma once
// Where a kernel's tests run. tests/kernels/<stem>_test.cpp is compiled for the CPU's kernels and, with ITO_TEST_CUDA, once more
// for CUDA's: one body holds both to the oracle.

#include <functional>
#include <span>
#include <vector>

#include "kernels/common/value_pointer.h"
#include "kernels/common/variant.h"
#include "tests/support/numeric.h"
#if ITO_TEST_CUDA
#include "tests/support/cuda_arrays.h"
#include "tests/support/cuda_machine.h"
#else
#include "tests/support/scratch.h"
#include "tests/support/targets.h"
#endif

namespace ito::kernels {
namespace cpu {}
namespace cuda {}
}  // namespace ito::kernels

namespace ito::testing {

#if ITO_TEST_CUDA

inline constexpr bool on_cuda = true;
using BackEndTypes = ::testing::Types<float, bfloat16>;

/// Fixture of a test of one body for both devices: CUDA's half.
template <class Type>
class BackEnd : public CudaTest {
  protected:
    using T = Type;

    /// Calls `body` for the orders in which the virtual GPU runs blocks and threads.
    static void for_each_way(const std::function<void()>& body) { for_each_schedule(body); }

    /// `best` and what the launcher has.
    static std::vector<kernels::Variant> variants(std::span<const kernels::Variant> all) {
        std::vector<kernels::Variant> result(all.begin(), all.end());
        result.push_back(kernels::Variant::best);
        return result;
    }

    /// Calls launch(context, on): on.in() and on.out() of host matrices and arrays are the views and pointers that
    /// the kernel is to take.
    template <class Launch>
    void run(Launch&& launch) {
        DeviceArguments on;
        launch(context(), on);
        on.copy_back();
    }
};
namespace back_end = kernels::cuda;
#define ITO_TEST_LAUNCH(launcher, context, arguments, variant) \
    kernels::cuda::launcher(context, arguments, variant)

#else

inline constexpr bool on_cuda = false;
using BackEndTypes = ::testing::Types<float>;

/// The CPU's half.
template <class Type>
class BackEnd : public ::testing::Test {
  protected:
    using T = Type;

    /// Calls `body` for each instruction set that this processor has.
    template <class Body>
    static void for_each_way(Body&& body) {
        for_each_target(body);
    }

    static std::vector<kernels::Variant> variants(std::span<const kernels::Variant>) {
        return {kernels::Variant::best};
    }

    struct HostArguments {
        template <class U>
        kernels::View<const U> in(const Strided<U>& matrix) {
            return matrix.view();
        }
        template <class U>
        kernels::View<U> out(Strided<U>& matrix) {
            return matrix.view();
        }
        template <class U>
        const U* in(const std::vector<U>& array) {
            return array.data();
        }
        template <class U>
        U* out(std::vector<U>& array) {
            return array.data();
        }
        template <class U>
        U* fresh(std::vector<U>& array) {
            return array.data();
        }
        template <class U>
        kernels::ValuePointer<const U> value(const U& host) {
            return kernels::host_value(&host);
        }
        template <class U>
        kernels::ValuePointer<U> out_value(U& host) {
            return kernels::host_value(&host);
        }
    };
    template <class Launch>
    void run(Launch&& launch) {
        HostArguments on;
        launch(static_cast<const kernels::Context&>(context_), on);
    }

  private:
    ContextWithScratch context_;
};
namespace back_end = kernels::cpu;
#define ITO_TEST_LAUNCH(launcher, context, arguments, variant) \
    (static_cast<void>(variant), kernels::cpu::launcher(context, arguments))

#endif

}  // namespace ito::testing
