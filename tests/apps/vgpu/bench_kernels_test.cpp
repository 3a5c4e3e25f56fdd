// ito bench kernels on the virtual GPU: what it counts, and that the code which times on a GPU runs without a fault.

#include "apps/kernel_bench/machine.h"
#include "tests/apps/ito_command.h"
#include "tools/vgpu/report.h"

namespace ito::apps {
namespace {

nlohmann::json bench(const Arguments& more) {
    const auto result = ito(Arguments{"bench", "kernels", "--json"} + more);
    EXPECT_EQ(result.status, 0) << result.err;
    EXPECT_EQ(result.err, "");
    return nlohmann::json::parse(result.out);
}

TEST(BenchKernels, CountsSilu) {
    const auto report = bench({"--filter", "silu"});
    EXPECT_EQ(report.at("virtual"), true);
    EXPECT_TRUE(report.contains("sizes"));
    std::map<std::string, int> rows;
    for (const auto& row : report.at("results")) {
        SCOPED_TRACE(row.dump());
        const bool forward = row.at("kernel") == "silu_forward", wide = row.at("type") == "float32";
        const std::int64_t elements = row.at("model") == "mnist" ? 2 * 128 : 2 * 512;
        EXPECT_EQ(row.at("elements"), elements);
        EXPECT_EQ(row.at("minimum_bytes"), elements * (forward ? 2 : 3) * (wide ? 4 : 2));
        EXPECT_EQ(row.at("unique_bytes"), row.at("minimum_bytes"));
        EXPECT_EQ(row.at("sector_bytes_per_minimum"), 1.0);
        // 32 lanes of 16, 4 or 2 bytes in sectors of 32.
        const double sectors = row.at("variant") == "naive" ? (wide ? 4 : 2) : 16;
        EXPECT_EQ(row.at("sectors_per_load"), sectors);
        EXPECT_EQ(row.at("sectors_per_store"), sectors);
        EXPECT_EQ(row.at("bank_conflicts"), 0.0);
        EXPECT_EQ(row.at("kernels_launched"), 1.0);
        EXPECT_GT(row.at("instructions_per_element"), 10.0);
        EXPECT_LT(row.at("instructions_per_element"), 100.0);
        ++rows[row.at("variant")];
    }
    EXPECT_EQ(rows, (std::map<std::string, int>{{"best", 8}, {"naive", 8}, {"vectorized", 8}}));
}

TEST(BenchKernels, EveryKernelRunsInEveryVariant) {
    std::set<std::string> kernels;
    const auto report = bench({"--filter", "mnist"});
    for (const auto& row : report.at("results")) {
        SCOPED_TRACE(row.dump());
        kernels.insert(row.at("kernel"));
        if (row.contains("not_run")) {
            EXPECT_NE(row.at("variant"), "best");
            continue;
        }
        EXPECT_GT(row.at("unique_bytes_per_minimum"),
                  0.94);  // the minimum, but that of a dropped element x is not read
    }
    EXPECT_TRUE(kernels.contains("silu_forward"));
}

TEST(BenchKernels, Text) {
    const auto result = ito({"bench", "kernels", "--filter", "silu_backward/float32/mnist"});
    expect_success(result);
    EXPECT_TRUE(result.out.starts_with("The virtual GPU as an NVIDIA H100")) << result.out;
    EXPECT_NE(result.out.find("silu_backward/float32/mnist/2x128"), std::string::npos) << result.out;
    EXPECT_EQ(std::count(result.out.begin(), result.out.end(), '\n'), 5) << result.out;
}

TEST(BenchKernels, RefusesWhatItCannotDo) {
    expect_refused(ito({"bench", "kernels", "--filter", "relu"}), {"--filter relu", "silu_forward"});
    expect_refused(ito({"bench", "kernels", "--device", "cuda:x"}), {"device 'cuda:x'", "cuda:N"});
    expect_refused(ito({"bench", "kernels", "--device", "cuda:1"}), {"device 'cuda:1'", "one CUDA device"});
    expect_refused(ito({"bench", "kernels", "--repeats", "0"}), {"--repeats 0", "1 to 10000"});
    expect_refused(ito({"bench", "--json", "kernels"}), {"--json"});
}

// The virtual GPU's clock says nothing, but its graph runs every captured launch and its checks see every access.
TEST(BenchKernels, TimingRunsThroughEnoughMemory) {
    using namespace kernel_bench;
    const auto machine = make_machine(Device::cuda());
    const auto all = all_cases(Device::cuda(), true);
    ASSERT_FALSE(all.empty());
    const auto silu =
        std::find_if(all.begin(), all.end(), [](const Case& c) { return c.kernel == "silu_forward"; });
    ASSERT_NE(silu, all.end());
    int launches = 0;
    Case counted = *silu;
    counted.prepare = [&](Buffers& memory) -> Launch {
        return
            [&, launch = silu->prepare(memory)](const kernels::Context& context, kernels::Variant variant) {
                ++launches;
                launch(context, variant);
            };
    };
    const std::size_t footprint = 2048;  // 256 floats in, 256 out
    const Prepared prepared = machine->prepare(counted, 50 * footprint);
    EXPECT_EQ(prepared.size(), 102u);
    vgpu::clear_reports();
    const Timing timing = machine->time(prepared, kernels::Variant::best, 3);
    EXPECT_EQ(launches, 102);
    EXPECT_GT(timing.best_us, 0);
    EXPECT_LE(timing.best_us, timing.median_us);
    EXPECT_EQ(machine->prepare(counted, 0).size(), 1u);
    EXPECT_GT(machine->copy_bytes_per_second(1 << 20, 1), 0);
    EXPECT_EQ(vgpu::report_count(), 0u);
}

}  // namespace
}  // namespace ito::apps
