#include "tools/vgpu/runtime/address_space.h"

#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "tools/vgpu/runtime/state.h"

namespace vgpu {

bool is_device_address(std::uint64_t address) {
    const detail::AddressSpace& space = detail::address_space();
    return address - space.first < space.size;
}

namespace detail {
namespace {

constexpr std::uint64_t terabyte = std::uint64_t{1} << 40;

void* reserve(std::uint64_t bytes, int protection) {
    void* range = mmap(nullptr, bytes, protection, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return range == MAP_FAILED ? nullptr : range;
}

AddressSpace reserve_all() {
    // A system that limits address space may grant less than the terabyte: then addresses come back sooner.
    for (std::uint64_t size = terabyte; size >= terabyte >> 8; size >>= 1) {
        AddressSpace space;
        space.size = size;
        space.first = reinterpret_cast<std::uint64_t>(reserve(size, PROT_NONE));
        space.alias = static_cast<std::byte*>(reserve(size, PROT_READ | PROT_WRITE));
        space.initialised = static_cast<std::uint8_t*>(reserve(size, PROT_READ | PROT_WRITE));
        space.written_by = static_cast<std::uint32_t*>(reserve(size, PROT_READ | PROT_WRITE));
        space.read_by = static_cast<std::uint32_t*>(reserve(size, PROT_READ | PROT_WRITE));
        if (space.first != 0 && space.alias != nullptr && space.initialised != nullptr &&
            space.written_by != nullptr && space.read_by != nullptr) {
            // Huge pages would make a small tensor's shadows cost megabytes.
            madvise(space.initialised, size, MADV_NOHUGEPAGE);
            madvise(space.written_by, size, MADV_NOHUGEPAGE);
            madvise(space.read_by, size, MADV_NOHUGEPAGE);
            return space;
        }
        for (void* range : {reinterpret_cast<void*>(space.first), static_cast<void*>(space.alias),
                            static_cast<void*>(space.initialised), static_cast<void*>(space.written_by),
                            static_cast<void*>(space.read_by)}) {
            if (range != nullptr) {
                munmap(range, size);
            }
        }
    }
    std::fprintf(stderr, "vgpu: the system grants no address space for device memory (ulimit -v?)\n");
    std::abort();
}

struct sigaction previous_action;

// Reports a host access to device memory, then lets the fault happen again under the previous handler, so
// that the process dies as it would have, with its core file or its sanitizer's stack trace.
void on_fault(int signal, siginfo_t* info, void*) {
    const auto address = reinterpret_cast<std::uint64_t>(info->si_addr);
    if (is_device_address(address)) {
        report_api(Fault::host_access, "host code",
                   "host access to device memory, " + describe_address(address) +
                       "; copy it with cudaMemcpy instead of dereferencing a device pointer",
                   address, 1);
    }
    sigaction(signal, &previous_action, nullptr);
}

// Whole pages go back to the system, which reads as zero; the ends share a page with neighbours.
void clear(void* first, std::size_t bytes) {
    const auto page = static_cast<std::uintptr_t>(sysconf(_SC_PAGESIZE));
    const auto start = reinterpret_cast<std::uintptr_t>(first);
    const auto stop = start + bytes;
    const auto begin = (start + page - 1) / page * page;
    const auto end = stop / page * page;
    if (begin >= end) {
        std::memset(first, 0, bytes);
        return;
    }
    madvise(reinterpret_cast<void*>(begin), end - begin, MADV_DONTNEED);
    std::memset(first, 0, begin - start);
    std::memset(reinterpret_cast<void*>(end), 0, stop - end);
}

}  // namespace

const AddressSpace& address_space() {
    static const AddressSpace space = reserve_all();
    return space;
}

void return_pages(std::uint64_t address, std::size_t size) {
    const std::size_t word_bytes = (size + 3) / 4 * sizeof(std::uint32_t);
    clear(alias_of(address), size);
    clear(initialised_of(address), size);
    clear(writers_of(address), word_bytes);
    clear(readers_of(address), word_bytes);
}

void catch_host_accesses() {
    struct sigaction action = {};
    action.sa_sigaction = on_fault;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK;
    sigemptyset(&action.sa_mask);
    sigaction(SIGSEGV, &action, &previous_action);
}

}  // namespace detail
}  // namespace vgpu
