// The reserved ranges behind device memory, each at a constant distance from the addresses that the host
// sees.
#pragma once

#include <cstddef>
#include <cstdint>

namespace vgpu::detail {

struct AddressSpace {
    std::uint64_t first = 0;  // device addresses: unreadable
    std::uint64_t size = 0;
    std::byte* alias = nullptr;
    std::uint8_t* initialised = nullptr;
    std::uint32_t* written_by = nullptr;  // per four bytes
    std::uint32_t* read_by = nullptr;
};
const AddressSpace& address_space();

inline std::byte* alias_of(std::uint64_t address) {
    return address_space().alias + (address - address_space().first);
}
inline std::uint8_t* initialised_of(std::uint64_t address) {
    return address_space().initialised + (address - address_space().first);
}
inline std::uint32_t* writers_of(std::uint64_t address) {
    return address_space().written_by + (address - address_space().first) / 4;
}
inline std::uint32_t* readers_of(std::uint64_t address) {
    return address_space().read_by + (address - address_space().first) / 4;
}

// Gives the memory behind a freed range, shadows included, back to the system.
void return_pages(std::uint64_t address, std::size_t size);

}  // namespace vgpu::detail
