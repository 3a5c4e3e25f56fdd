// What the objects of `nvcc -cudart none` call before main: their fat binaries, kernels and variables.
// Everything is looked up late, since the order in which translated modules register themselves is not
// defined.
#include "tools/vgpu/runtime/registration.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <vector>

#include "tools/vgpu/fatbin.h"
#include "tools/vgpu/runtime/state.h"
#include "tools/vgpu/runtime/symbols.h"

namespace vgpu::detail {
namespace {

// How nvcc wraps the fat binary in the object's data section.
struct Wrapper {
    int magic, version;
    const void* data;
    void* unused;
};
constexpr int wrapper_magic = 0x466243b1;

struct Variable {
    FatBinary* binary;
    std::string name;
    std::size_t size;
};

struct Registry {
    std::recursive_mutex mutex;
    std::vector<std::unique_ptr<FatBinary>> binaries;
    std::map<const void*, std::unique_ptr<Kernel>> kernels;  // by host function
    std::vector<Kernel*> handles;
    std::map<const void*, Variable> variables;  // by host shadow
};

Registry& registry() {
    static auto& instance = *new Registry;
    return instance;
}

void report_untranslated(const char* call, const std::string& name, const FatBinary& binary) {
    report_api(Fault::unknown, call,
               binary.id == 0
                   ? "the object of " + name +
                         " holds no readable PTX; compile it with code=compute_80 and without compression"
                   : "no translated module is linked for the object of " + name);
}

// Gives the module's variables memory and their initial values.
bool load(FatBinary& binary, const ModuleInfo& module) {
    if (binary.loaded) {
        return true;
    }
    for (const GlobalVariable& variable : module.globals) {
        const std::uint64_t address =
            allocate_device(std::max<std::size_t>(variable.size, 1),
                            variable.constant ? MemoryKind::constant : MemoryKind::global, variable.name);
        if (address == 0) {
            return false;
        }
        *variable.address = address;
    }
    for (const GlobalVariable& variable : module.globals) {
        const Allocation& record = *find_allocation(*variable.address);
        std::memset(record.initialised, 1, record.size);
        std::memset(record.alias, 0, record.size);
        if (variable.initial != nullptr) {
            std::memcpy(record.alias, variable.initial, variable.size);
        }
        for (const Relocation& relocation : variable.relocations) {
            const std::uint64_t value = *relocation.target + relocation.addend;
            std::memcpy(record.alias + relocation.offset, &value, sizeof(value));
        }
    }
    binary.loaded = true;
    return true;
}

}  // namespace

Kernel* find_kernel(const void* function_or_handle) {
    Registry& r = registry();
    std::lock_guard<std::recursive_mutex> lock(r.mutex);
    const auto found = r.kernels.find(function_or_handle);
    if (found != r.kernels.end()) {
        return found->second.get();
    }
    const auto handle = std::find(r.handles.begin(), r.handles.end(), function_or_handle);
    return handle != r.handles.end() ? *handle : nullptr;
}

const KernelInfo* resolve(Kernel& kernel, const char* call) {
    const ModuleInfo* module = kernel.binary->id == 0 ? nullptr : find_module(kernel.binary->id);
    if (module == nullptr) {
        report_untranslated(call, "the kernel " + kernel.name, *kernel.binary);
        return nullptr;
    }
    const auto info = std::find_if(module->kernels.begin(), module->kernels.end(),
                                   [&](const KernelInfo& entry) { return kernel.name == entry.name; });
    if (info == module->kernels.end() || !load(*kernel.binary, *module)) {
        report_api(Fault::unknown, call,
                   info == module->kernels.end()
                       ? "the translated module holds no kernel " + kernel.name
                       : "the variables of the module of " + kernel.name + " do not fit into device memory");
        return nullptr;
    }
    return &*info;
}

Symbol find_symbol(const void* host_variable) {
    Registry& r = registry();
    std::lock_guard<std::recursive_mutex> lock(r.mutex);
    const auto found = r.variables.find(host_variable);
    if (found == r.variables.end()) {
        return {};
    }
    const Variable& variable = found->second;
    const ModuleInfo* module = variable.binary->id == 0 ? nullptr : find_module(variable.binary->id);
    if (module == nullptr) {
        report_untranslated("symbol lookup", "the variable " + variable.name, *variable.binary);
        return {};
    }
    const auto global =
        std::find_if(module->globals.begin(), module->globals.end(),
                     [&](const GlobalVariable& entry) { return variable.name == entry.name; });
    if (global == module->globals.end() || !load(*variable.binary, *module)) {
        return {};
    }
    return {*global->address, variable.size, variable.name};
}

void forget_modules() {
    Registry& r = registry();
    std::lock_guard<std::recursive_mutex> lock(r.mutex);
    for (const auto& binary : r.binaries) {
        binary->loaded = false;
    }
    for (Kernel* kernel : r.handles) {
        kernel->dynamic_shared_limit = 0;
    }
}

}  // namespace vgpu::detail

using namespace vgpu::detail;

extern "C" {

void** __cudaRegisterFatBinary(void* wrapper) {
    Registry& r = registry();
    std::lock_guard<std::recursive_mutex> lock(r.mutex);
    auto binary = std::make_unique<FatBinary>();
    const auto* outer = static_cast<const Wrapper*>(wrapper);
    if (outer->magic == wrapper_magic) {
        const std::string_view ptx = vgpu::fatbin_ptx(outer->data);
        binary->id = ptx.empty() ? 0 : vgpu::module_id(ptx);
    }
    r.binaries.push_back(std::move(binary));
    return reinterpret_cast<void**>(r.binaries.back().get());
}

void __cudaRegisterFatBinaryEnd(void**) {}

// Called at exit, when queued work may still name the binary's kernels: everything stays.
void __cudaUnregisterFatBinary(void**) {}

char __cudaInitModule(void**) {
    return 1;
}

void __cudaRegisterFunction(void** binary, const char* host_function, char*, const char* name, int, uint3*,
                            uint3*, dim3*, dim3*, int*) {
    Registry& r = registry();
    std::lock_guard<std::recursive_mutex> lock(r.mutex);
    auto kernel = std::make_unique<Kernel>();
    kernel->binary = reinterpret_cast<FatBinary*>(binary);
    kernel->name = name;
    r.handles.push_back(kernel.get());
    r.kernels[host_function] = std::move(kernel);
}

void __cudaRegisterVar(void** binary, char* host_variable, char*, const char* name, int, std::size_t size,
                       int, int) {
    Registry& r = registry();
    std::lock_guard<std::recursive_mutex> lock(r.mutex);
    r.variables[host_variable] = {reinterpret_cast<FatBinary*>(binary), name, size};
}

cudaError_t __cudaGetKernel(cudaKernel_t* handle, const void* function) {
    *handle = reinterpret_cast<cudaKernel_t>(find_kernel(function));
    return *handle != nullptr ? cudaSuccess : cudaErrorInvalidDeviceFunction;
}

cudaError_t cudaGetSymbolAddress(void** address, const void* symbol) {
    return api("cudaGetSymbolAddress", [&] {
        const Symbol found = find_symbol(symbol);
        *address = reinterpret_cast<void*>(found.address);
        return found.address != 0 ? cudaSuccess : cudaErrorInvalidSymbol;
    });
}

cudaError_t cudaGetSymbolSize(std::size_t* size, const void* symbol) {
    return api("cudaGetSymbolSize", [&] {
        const Symbol found = find_symbol(symbol);
        *size = found.size;
        return found.address != 0 ? cudaSuccess : cudaErrorInvalidSymbol;
    });
}

}  // extern "C"
