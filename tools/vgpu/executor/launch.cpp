// The registry of translated modules, and the entry to the executor.
#include <map>
#include <mutex>

#include "tools/vgpu/executor/executor.h"
#include "tools/vgpu/kernel.h"

namespace vgpu {
namespace {

struct Registry {
    std::mutex mutex;
    std::map<std::uint64_t, ModuleInfo> modules;
};
Registry& registry() {
    static Registry r;
    return r;
}

}  // namespace

void register_module(const ModuleInfo& module) {
    Registry& r = registry();
    const std::lock_guard lock(r.mutex);
    r.modules.emplace(module.id, module);
}

const ModuleInfo* find_module(std::uint64_t id) {
    Registry& r = registry();
    const std::lock_guard lock(r.mutex);
    const auto it = r.modules.find(id);
    return it == r.modules.end() ? nullptr : &it->second;
}

std::vector<const ModuleInfo*> registered_modules() {
    Registry& r = registry();
    const std::lock_guard lock(r.mutex);
    std::vector<const ModuleInfo*> result;
    for (const auto& [id, module] : r.modules) {
        result.push_back(&module);
    }
    return result;
}

std::string check_launch(const KernelInfo& kernel, const Launch& launch) {
    const auto list = [](const unsigned(&v)[3]) {
        return "(" + std::to_string(v[0]) + ", " + std::to_string(v[1]) + ", " + std::to_string(v[2]) + ")";
    };
    const unsigned long long threads =
        static_cast<unsigned long long>(launch.block[0]) * launch.block[1] * launch.block[2];
    if (launch.grid[0] == 0 || launch.grid[1] == 0 || launch.grid[2] == 0 || threads == 0) {
        return "the grid " + list(launch.grid) + " or the block " + list(launch.block) + " is empty";
    }
    if (launch.block[0] > 1024 || launch.block[1] > 1024 || launch.block[2] > 64 || threads > 1024) {
        return "the block " + list(launch.block) + " has " + std::to_string(threads) +
               " threads; at most 1024, and (1024, 1024, 64) in each direction";
    }
    if (launch.grid[0] > 0x7FFFFFFFu || launch.grid[1] > 65535 || launch.grid[2] > 65535) {
        return "the grid " + list(launch.grid) + " exceeds (2147483647, 65535, 65535)";
    }
    if (kernel.max_threads != 0 && threads > static_cast<unsigned long long>(kernel.max_threads)) {
        return "the block has " + std::to_string(threads) +
               " threads, the kernel's __launch_bounds__ allows " + std::to_string(kernel.max_threads);
    }
    const Profile& device = profile();
    const std::size_t shared = kernel.static_shared + launch.dynamic_shared;
    if (kernel.static_shared > 48 * 1024) {
        return "the kernel has " + std::to_string(kernel.static_shared) +
               " bytes of static shared memory, at most 49152";
    }
    if (shared > device.shared_per_block_optin) {
        return "the block needs " + std::to_string(shared) + " bytes of shared memory (" +
               std::to_string(kernel.static_shared) + " static), " + device.full_name + " has " +
               std::to_string(device.shared_per_block_optin);
    }
    return {};
}

void run_kernel(const KernelInfo& kernel, const Launch& launch) {
    const std::string problem = check_launch(kernel, launch);
    if (!problem.empty()) {
        Report r;
        r.kind = Fault::launch_limit;
        r.kernel = kernel.name;
        r.file = kernel.file;
        r.line = kernel.line;
        r.text = problem;
        report(std::move(r));
        return;
    }
    device::Executor::of_this_thread().run(kernel, launch);
}

namespace device {

// Plain data of a translated module to what the host half reads. Runs before main.
RegisterModule::RegisterModule(const ModuleData& data) {
    ModuleInfo module;
    module.id = data.id;
    for (U32 k = 0; k < data.kernel_count; ++k) {
        const KernelData& from = data.kernels[k];
        KernelInfo to;
        to.name = from.name;
        for (U32 p = 0; p < from.param_count; ++p) {
            to.params.push_back({from.params[p].offset, from.params[p].size, from.params[p].alignment});
        }
        to.param_bytes = from.param_bytes;
        to.static_shared = from.static_shared;
        to.max_threads = from.max_threads;
        to.line = from.where.line;
        to.file = from.where.file;
        to.module = data.id;
        to.data = &from;
        module.kernels.push_back(std::move(to));
    }
    for (U32 k = 0; k < data.variable_count; ++k) {
        const VariableData& from = data.variables[k];
        GlobalVariable to;
        to.name = from.name;
        to.size = from.size;
        to.alignment = from.alignment;
        to.initial = from.initial;
        to.address = from.address;
        to.constant = from.constant;
        for (U32 r = 0; r < from.relocation_count; ++r) {
            to.relocations.push_back(
                {from.relocations[r].offset, from.relocations[r].target, from.relocations[r].addend});
        }
        module.globals.push_back(std::move(to));
    }
    register_module(module);
}

}  // namespace device
}  // namespace vgpu
