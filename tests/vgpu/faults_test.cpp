// Planted mistakes: each is reported with its kind, kernel, line of the .cu file and thread.
#include <fstream>

#include "tests/vgpu/kernels/kernels.h"
#include "tests/vgpu/runtime_support.h"

namespace vgpu_test {
namespace {

class Faults : public Runtime {
  protected:
    // The line of planted.cu that carries the mark.
    static int line_of(const std::string& mark) {
        std::ifstream in(VGPU_PLANTED_SOURCE);
        std::string text;
        for (int line = 1; std::getline(in, text); ++line) {
            const std::size_t at = text.find("// planted: " + mark);
            if (at != std::string::npos && text.size() == at + 12 + mark.size()) {
                return line;
            }
        }
        ADD_FAILURE() << "no mark " << mark;
        return 0;
    }
    static vgpu::Report expect(vgpu::Fault kind, const std::string& mark) {
        cudaDeviceSynchronize();
        const vgpu::Report r = first(kind);
        EXPECT_EQ(line_of(mark), r.line) << all_reports();
        EXPECT_NE(std::string::npos, r.file.find("planted.cu")) << r.file;
        EXPECT_NE(std::string::npos, r.kernel.find(mark)) << r.kernel;
        return r;
    }
    static float* filled(std::size_t count) {
        float* p = device_array<float>(count);
        EXPECT_EQ(cudaSuccess, cudaMemset(p, 0, count * sizeof(float)));
        return p;
    }
    template <class F>
    static void in_every_schedule(F&& f) {
        for (const vgpu::Schedule s :
             {vgpu::Schedule{vgpu::Order::forward, 0}, vgpu::Schedule{vgpu::Order::reverse, 0},
              vgpu::Schedule{vgpu::Order::random, 5}}) {
            vgpu::reset();
            vgpu::set_report_handler([](const vgpu::Report&) {});
            vgpu::set_schedule(s);
            f();
        }
    }
};

TEST_F(Faults, OutOfBounds) {
    in_every_schedule([] {
        float* x = device_array<float>(100);
        out_of_bounds(x, 100);
        const auto r = expect(vgpu::Fault::out_of_bounds, "out_of_bounds");
        EXPECT_EQ(36u, r.thread[0]);
        EXPECT_EQ(1u, r.block[0]);
        EXPECT_EQ(reinterpret_cast<std::uint64_t>(x + 100), r.address);
        EXPECT_EQ(cudaErrorIllegalAddress, cudaDeviceSynchronize());
    });
}

TEST_F(Faults, Misaligned) {
    misaligned(reinterpret_cast<char*>(device_array<float>(4)));
    EXPECT_EQ(1u, expect(vgpu::Fault::misaligned, "misaligned").thread[0]);
}

TEST_F(Faults, SharedOutOfBounds) {
    shared_out_of_bounds(device_array<float>(32));
    EXPECT_EQ(16u, expect(vgpu::Fault::out_of_bounds, "shared_out_of_bounds").thread[0]);
}

TEST_F(Faults, MissingBarrier) {
    in_every_schedule([] {
        missing_barrier(filled(64), device_array<float>(2));
        cudaDeviceSynchronize();
        EXPECT_GE(count(vgpu::Fault::race), 1u);
    });
    vgpu::reset();
    vgpu::set_report_handler([](const vgpu::Report&) {});
    vgpu::set_schedule({vgpu::Order::reverse, 0});
    missing_barrier(filled(64), device_array<float>(2));
    expect(vgpu::Fault::race, "missing_barrier");
}

TEST_F(Faults, DivergentBarrierDeadlocks) {
    in_every_schedule([] {
        divergent_barrier(device_array<float>(64));
        const auto r = expect(vgpu::Fault::deadlock, "divergent_barrier");
        EXPECT_NE(std::string::npos, r.text.find("32 threads (the first is thread (0, 0, 0))")) << r.text;
        EXPECT_NE(std::string::npos, r.text.find("barrier 1")) << r.text;
    });
}

TEST_F(Faults, WrongBarrierDeadlocks) {
    wrong_barrier(device_array<float>(64));
    const auto r = expect(vgpu::Fault::deadlock, "wrong_barrier");
    EXPECT_NE(std::string::npos, r.text.find("barrier 2")) << r.text;
}

TEST_F(Faults, MissingWait) {
    in_every_schedule([] {
        missing_wait(filled(128), device_array<float>(32));
        expect(vgpu::Fault::async_not_waited, "missing_wait");
    });
}

TEST_F(Faults, Uninitialised) {
    uninitialised_shared(device_array<float>(64));
    EXPECT_EQ(58u, expect(vgpu::Fault::uninitialised, "uninitialised_shared").thread[0]);
    vgpu::reset();
    vgpu::set_report_handler([](const vgpu::Report&) {});
    float* x = device_array<float>(32);
    ASSERT_CUDA(cudaMemset(x, 0, 31 * sizeof(float)));
    uninitialised_global(x, device_array<float>(32));
    EXPECT_EQ(31u, expect(vgpu::Fault::uninitialised, "uninitialised_global").thread[0]);
}

TEST_F(Faults, LaneExit) {
    in_every_schedule([] {
        lane_exits(filled(32), device_array<float>(32));
        const auto r = expect(vgpu::Fault::lane_exit, "lane_exits");
        EXPECT_EQ(19u, r.thread[0]);
        EXPECT_NE(std::string::npos, r.text.find("reads lane 20")) << r.text;
    });
}

TEST_F(Faults, LaneNotNamed) {
    lane_not_named(filled(32), device_array<float>(32));
    EXPECT_NE(std::string::npos, expect(vgpu::Fault::lane_exit, "lane_not_named").text.find("does not name"));
}

TEST_F(Faults, RaceWithinAWarp) {
    in_every_schedule([] {
        race_in_warp(device_array<float>(32));
        cudaDeviceSynchronize();
        EXPECT_GE(count(vgpu::Fault::race), 1u) << all_reports();
    });
}

TEST_F(Faults, SameValueIsNoRace) {
    in_every_schedule([] {
        race_same_value(device_array<float>(64));
        EXPECT_CUDA(cudaDeviceSynchronize());
        EXPECT_EQ(0u, vgpu::report_count()) << all_reports();
    });
}

TEST_F(Faults, LaunchLimits) {
    launch_too_large(device_array<float>(1));
    EXPECT_NE(std::string::npos, first(vgpu::Fault::launch_limit).text.find("2048 threads"));
    vgpu::reset();
    vgpu::set_report_handler([](const vgpu::Report&) {});
    vgpu::set_profile("rtx4090");
    launch_too_much_shared(device_array<float>(1));
    EXPECT_EQ(1u, std::min<std::size_t>(1, count(vgpu::Fault::launch_limit))) << all_reports();
    vgpu::reset();
    vgpu::set_report_handler([](const vgpu::Report&) {});
    launch_too_much_shared(device_array<float>(1));  // an H100 has enough
    EXPECT_CUDA(cudaDeviceSynchronize());
    EXPECT_EQ(0u, vgpu::report_count()) << all_reports();
}

TEST_F(Faults, AssertAndTrap) {
    failed_assertion(40);
    const auto r = expect(vgpu::Fault::unknown, "failed_assertion");
    EXPECT_EQ(40u, r.thread[0]);
    EXPECT_NE(std::string::npos, r.text.find("n > static_cast<int>(threadIdx.x)")) << r.text;
    vgpu::reset();
    vgpu::set_report_handler([](const vgpu::Report&) {});
    traps(7);
    cudaDeviceSynchronize();
    EXPECT_EQ(7u, first(vgpu::Fault::unknown).thread[0]);
    EXPECT_EQ(line_of("traps"), first(vgpu::Fault::unknown).line);
}

TEST_F(Faults, LocalOutOfBounds) {
    const std::vector<int> index = {0, 3, 8, 1};
    int* device = device_array<int>(4);
    ASSERT_CUDA(cudaMemcpy(device, index.data(), 16, cudaMemcpyHostToDevice));
    local_out_of_bounds(device, device_array<float>(4));
    EXPECT_EQ(2u, expect(vgpu::Fault::out_of_bounds, "local_out_of_bounds").thread[0]);
}

TEST_F(Faults, ConstantMemoryIsReadOnly) {
    writes_constant(filled(1));
    expect(vgpu::Fault::out_of_bounds, "writes_constant");
}

}  // namespace
}  // namespace vgpu_test
